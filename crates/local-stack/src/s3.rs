//! S3 served by SeaweedFS, with all of its components in one process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, Credentials};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use crate::certificates::{Authority, Identity};
use crate::defaults::{BUCKET, S3_ACCESS_KEY, S3_REGION, S3_SECRET_KEY};
use crate::error::{At, StackError};
use crate::name::Name;
use crate::places::Dist;
use crate::ports;
use crate::process::Signal;
use crate::server::Server;
use crate::service::{Service, StopSignal, apart, tail, wait_for};

const QUESTION_LIMIT: Duration = Duration::from_secs(5);
const STORAGE_LIMIT: Duration = Duration::from_secs(25);
const STORAGE_PAUSE: Duration = Duration::from_millis(50);
const PROBE_KEY: &str = ".local-stack";
/// The admin component expects its gRPC port at this offset and ignores the flags.
const ADMIN_GRPC_OFFSET: u16 = 10_000;
/// Components with a flag for their port.
const PARTS: [&str; 7] = [
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
];

/// A dedicated S3 server.
pub type S3 = Server<S3Service>;

/// Endpoint and credentials of an S3 server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Access {
    /// `http://127.0.0.1:PORT` or `https://…`, with path-style bucket addresses.
    pub endpoint: String,
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
    /// Region.
    pub region: String,
    /// Bucket that exists from the start.
    pub bucket: String,
}

impl S3Access {
    /// Returns the environment variables of the AWS tools, as names and values.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL_S3", &self.endpoint),
            ("AWS_REGION", &self.region),
            ("AWS_ACCESS_KEY_ID", &self.access_key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_key),
        ]
    }

    fn on(scheme: &str, port: u16) -> Self {
        Self {
            endpoint: format!("{scheme}://127.0.0.1:{port}"),
            access_key: S3_ACCESS_KEY.to_owned(),
            secret_key: S3_SECRET_KEY.to_owned(),
            region: S3_REGION.to_owned(),
            bucket: BUCKET.to_owned(),
        }
    }
}

/// Folder and ports of an S3 server.
#[derive(Debug, Clone)]
pub struct S3Service {
    weed: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    port: u16,
    /// In the order of [`PARTS`].
    part_ports: [u16; PARTS.len()],
    admin_port: u16,
    tls: Option<Tls>,
}

/// Certificate and key of an HTTPS server, and the authority that clients trust.
#[derive(Debug, Clone)]
struct Tls {
    certificate: String,
    key: String,
    authority: String,
}

impl S3 {
    /// Starts a server that accepts HTTPS only.
    pub fn secured(server: &Identity, authority: &Authority) -> Result<Self, StackError> {
        let (certificate, key) = (server.certificate()?, server.key()?);
        let tls = Tls { certificate, key, authority: authority.certificate()? };
        Self::ephemeral_as(|service| Ok(S3Service { tls: Some(tls.clone()), ..service }))
    }

    /// Returns endpoint, keys, region and bucket.
    #[must_use]
    pub fn access(&self) -> S3Access {
        self.service.access()
    }
}

impl S3Service {
    fn access(&self) -> S3Access {
        S3Access::on(if self.tls.is_some() { "https" } else { "http" }, self.port)
    }

    fn client(&self) -> Client {
        let access = self.access();
        let limits = TimeoutConfig::builder().operation_timeout(QUESTION_LIMIT).build();
        let config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(access.region))
            .credentials_provider(Credentials::new(access.access_key, access.secret_key, None, None, "local-stack"))
            .endpoint_url(access.endpoint)
            .force_path_style(true)
            .timeout_config(limits)
            .retry_config(RetryConfig::disabled());
        let plain = || aws_smithy_http_client::Builder::new().build_http();
        let http = self.tls.as_ref().and_then(Tls::http_client).unwrap_or_else(plain);
        Client::from_conf(config.http_client(http).build())
    }

    async fn make_bucket(&self) -> Result<(), String> {
        let made = self.client().create_bucket().bucket(BUCKET).send().await;
        match made {
            Err(error) if !matches!(error.code(), Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists")) => {
                Err(DisplayErrorContext(error).to_string())
            }
            _ => Ok(()),
        }
    }

    /// Waits until an object can be stored and removed.
    ///
    /// The S3 component answers before the storage component joins, which can take 5 s or more; until then each request
    /// for an object fails with `InternalError`.
    async fn await_storage(&self) -> Result<(), String> {
        let deadline = Instant::now() + STORAGE_LIMIT;
        loop {
            match self.keep_an_object().await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(STORAGE_PAUSE).await,
                kept => return kept,
            }
        }
    }

    async fn keep_an_object(&self) -> Result<(), String> {
        let client = self.client();
        let put = client.put_object().bucket(BUCKET).key(PROBE_KEY).body(PROBE_KEY.as_bytes().to_vec().into());
        put.send().await.map_err(|error| DisplayErrorContext(error).to_string())?;
        let got = client.get_object().bucket(BUCKET).key(PROBE_KEY).send().await;
        got.map_err(|error| DisplayErrorContext(error).to_string())?;
        let removed = client.delete_object().bucket(BUCKET).key(PROBE_KEY).send().await;
        removed.map(drop).map_err(|error| DisplayErrorContext(error).to_string())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn write_certificate(&self) -> Result<Option<[PathBuf; 2]>, StackError> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let files = [self.folder.join("server.crt"), self.folder.join("server.key")];
        for (file, text) in files.iter().zip([&tls.certificate, &tls.key]) {
            fs::write(file, text).at("write", file)?;
        }
        Ok(Some(files))
    }

    fn identities(&self) -> PathBuf {
        self.folder.join("s3.json")
    }
}

impl Tls {
    fn http_client(&self) -> Option<SharedHttpClient> {
        let trust = TrustStore::empty().with_pem_certificate(self.authority.as_bytes());
        let context = TlsContext::builder().with_trust_store(trust).build().ok()?;
        let builder = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
        Some(builder.tls_context(context).build_https())
    }
}

impl Service for S3Service {
    const NAME: Name = Name::S3;
    const STOP: StopSignal = StopSignal(Signal::Term);
    const ABORT: StopSignal = StopSignal(Signal::Kill);

    fn at(folder: &Path, log: &Path, port: u16) -> Result<Self, StackError> {
        let weed = Dist::find()?.weed();
        let mut part_ports = [0; PARTS.len()];
        for part in &mut part_ports {
            *part = ports::free_where(|other| other != port)?;
        }
        let admin_port = ports::free_where(|other| {
            let grpc = other.saturating_add(ADMIN_GRPC_OFFSET);
            grpc < 32_000
                && ports::is_free(grpc)
                && ![other, grpc].iter().any(|taken| part_ports.contains(taken) || *taken == port)
        })?;
        Ok(Self { weed, folder: folder.to_owned(), log: log.to_owned(), port, part_ports, admin_port, tls: None })
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> &Path {
        &self.log
    }

    fn ports(&self) -> Vec<u16> {
        let mut ports = self.part_ports.to_vec();
        ports.extend([self.port, self.admin_port, self.admin_port + ADMIN_GRPC_OFFSET]);
        ports
    }

    fn prepare(&self) -> Result<(), StackError> {
        let (data, identities) = (self.data(), self.identities());
        fs::create_dir_all(&data).at("create", &data)?;
        let text = serde_json::json!({"identities": [{
            "name": "local-stack",
            "credentials": [{"accessKey": S3_ACCESS_KEY, "secretKey": S3_SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        fs::write(&identities, text.to_string()).at("write", &identities)?;
        // SeaweedFS would prefer the ports of the last start to the flags.
        match fs::remove_file(data.join("mini.options")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).at("remove", &data.join("mini.options"))
            }
            _ => Ok(()),
        }
    }

    fn command(&self) -> Result<Command, StackError> {
        let mut command = Command::new(&self.weed);
        command.args([
            "-logtostderr=true",
            "mini",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-webdav=false",
            "-admin.ui=false",
        ]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]);
        // As in Amazon S3, a write to a missing bucket is an error.
        command.arg("-s3.autoCreateBucket=false");
        // Many small volumes, because each bucket takes seven.
        command.args(["-master.volumeSizeLimitMB=128", "-volume.max=1000"]);
        command
            .arg(format!("-dir={}", self.data().display()))
            .arg(format!("-s3.config={}", self.identities().display()));
        command.arg(format!("-s3.port={}", self.port)).arg(format!("-admin.port={}", self.admin_port));
        command.args(PARTS.iter().zip(self.part_ports).map(|(part, port)| format!("-{part}={port}")));
        if let Some([certificate, key]) = self.write_certificate()? {
            command.arg(format!("-s3.cert.file={}", certificate.display()));
            command.arg(format!("-s3.key.file={}", key.display()));
        }
        command.current_dir(&self.folder);
        Ok(command)
    }

    fn ask(&self) -> Result<(), String> {
        wait_for(async {
            let listed = self.client().list_buckets().send().await;
            listed.map(drop).map_err(|error| DisplayErrorContext(error).to_string())
        })
    }

    fn furnish(&self) -> Result<(), StackError> {
        let step = |step: String| move |cause| StackError::SetUp { server: Name::S3, step, cause };
        apart(|| wait_for(self.make_bucket())).map_err(step(format!("bucket {BUCKET}")))?;
        let with_log = |cause| format!("{cause}; log:\n{}", tail(&self.log, 20).unwrap_or_default());
        let stored = apart(|| wait_for(self.await_storage())).map_err(with_log);
        stored.map_err(step("first object".to_owned()))
    }

    /// Removes the sockets in /tmp; SeaweedFS does not let us choose their folder and names.
    fn tidy(ports: &[u16]) {
        let endings: Vec<String> = ports.iter().map(|port| format!("-{port}.sock")).collect();
        for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with("seaweedfs-") && endings.iter().any(|ending| name.ends_with(ending.as_str())) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
