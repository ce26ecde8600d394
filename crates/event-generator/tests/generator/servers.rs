//! Servers shared by all tests. A test starts its own if it breaks them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use lake::{Lake, LakeUrl, S3Access};
use local_stack::{Kafka, S3};
use tempfile::TempDir;

/// Destination of a run.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) bootstrap_servers: String,
    pub(crate) topic: String,
    pub(crate) s3: local_stack::S3Access,
    pub(crate) lake: String,
    /// State folder.
    pub(crate) state: Arc<TempDir>,
}

/// Returns a new topic and lake on the shared servers.
pub(crate) fn target() -> Target {
    static SERVERS: OnceLock<(String, local_stack::S3Access)> = OnceLock::new();
    let (bootstrap_servers, s3) = SERVERS.get_or_init(|| {
        let (kafka, s3) = (Kafka::ephemeral().unwrap(), S3::ephemeral().unwrap());
        let servers = (kafka.bootstrap_servers(), s3.access());
        // They end with this process; a static is never dropped.
        std::mem::forget((kafka, s3));
        servers
    });
    Target::on(bootstrap_servers.clone(), s3.clone())
}

impl Target {
    pub(crate) fn on(bootstrap_servers: String, s3: local_stack::S3Access) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lake = format!("s3://{}/test-{number}", s3.bucket);
        let state = Arc::new(tempfile::tempdir().unwrap());
        Self { bootstrap_servers, state, topic: format!("test-{number}"), s3, lake }
    }

    /// Returns the same topic with another lake.
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
