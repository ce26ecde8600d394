//! Servers that all tests share; what a test breaks, it starts for itself.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use lake::{Lake, LakeUrl, S3Access};
use local_stack::{Kafka, S3};
use tempfile::TempDir;

/// Where a test's run goes.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) bootstrap_servers: String,
    pub(crate) topic: String,
    pub(crate) s3: local_stack::S3Access,
    pub(crate) lake: String,
    /// Where its runs are remembered.
    pub(crate) state: Arc<TempDir>,
}

/// A topic and a lake of one's own on the shared servers.
pub(crate) fn place() -> Place {
    static SERVERS: OnceLock<(String, local_stack::S3Access)> = OnceLock::new();
    let (bootstrap_servers, s3) = SERVERS.get_or_init(|| {
        let (kafka, s3) = (Kafka::ephemeral().unwrap(), S3::ephemeral().unwrap());
        let servers = (kafka.bootstrap_servers(), s3.access());
        // They end with this process: nothing drops a static.
        std::mem::forget((kafka, s3));
        servers
    });
    Place::on(bootstrap_servers.clone(), s3.clone())
}

impl Place {
    pub(crate) fn on(bootstrap_servers: String, s3: local_stack::S3Access) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lake = format!("s3://{}/test-{number}", s3.bucket);
        let state = Arc::new(tempfile::tempdir().unwrap());
        Self { bootstrap_servers, state, topic: format!("test-{number}"), s3, lake }
    }

    /// The same topic and servers, another lake.
    pub(crate) fn with_other_lake(&self) -> Self {
        Self { lake: format!("{}-other", self.lake), ..self.clone() }
    }

    pub(crate) async fn open_lake(&self) -> Lake {
        let access = S3Access::Fixed {
            endpoint: self.s3.endpoint.clone(),
            access_key: self.s3.access_key.clone(),
            secret_key: self.s3.secret_key.clone(),
            region: self.s3.region.clone(),
        };
        Lake::open(&self.lake.parse::<LakeUrl>().unwrap(), access).await.unwrap()
    }
}
