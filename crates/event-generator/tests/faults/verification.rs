//! Verification of a run by the independent verifier.

use lake::Manifest;
use verifier::{LakeAt, Report, Run, S3Access, Stores, Terms};

use crate::servers::Target;

/// Verifies the stores of a finished run (I1, I2, I4 and I5) and returns its manifest.
pub(crate) async fn verify(target: &Target, run: &str) -> Manifest {
    let manifest = target.open_lake().await.manifest(&run.parse().unwrap()).await.unwrap().unwrap();
    let report = report(target, &manifest).await;
    assert!(report.holds(), "{report}");
    manifest
}

pub(crate) async fn report(target: &Target, manifest: &Manifest) -> Report {
    let access = S3Access {
        endpoint: target.s3.endpoint.clone(),
        access_key: target.s3.access_key.clone(),
        secret_key: target.s3.secret_key.clone(),
        region: target.s3.region.clone(),
    };
    let lake = LakeAt::parse(&target.lake, Some(access)).unwrap();
    let stores = Stores { bootstrap_servers: target.bootstrap_servers.clone(), database_url: String::new(), lake };
    let run = Run::parse(&String::from_utf8(manifest.to_json().unwrap()).unwrap(), "manifest").unwrap();
    let terms = Terms::generator_only();
    let terms = if manifest.resumes > 0 { terms.allowing_copies() } else { terms };
    verifier::verify_async(&stores, &run, &terms).await.unwrap()
}
