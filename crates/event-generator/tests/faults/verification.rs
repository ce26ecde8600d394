//! The verifier's judgement of a run.

use lake::Manifest;
use verifier::{LakeAt, Run, S3Access, Stores, Terms, Verdict};

use crate::servers::Place;

/// What the stores say of a finished run, which must be all right: I1, I2, I4 and I5. Gives its manifest.
pub(crate) async fn holds(place: &Place, run: &str) -> Manifest {
    let manifest = place.open_lake().await.manifest(&run.parse().unwrap()).await.unwrap().unwrap();
    let verdict = verdict(place, &manifest).await;
    assert!(verdict.holds(), "{verdict}");
    manifest
}

pub(crate) async fn verdict(place: &Place, manifest: &Manifest) -> Verdict {
    let access = S3Access {
        endpoint: place.s3.endpoint.clone(),
        access_key: place.s3.access_key.clone(),
        secret_key: place.s3.secret_key.clone(),
        region: place.s3.region.clone(),
    };
    let lake = LakeAt::parse(&place.lake, Some(access)).unwrap();
    let stores = Stores { bootstrap_servers: place.bootstrap_servers.clone(), database_url: String::new(), lake };
    let run = Run::parse(&String::from_utf8(manifest.to_json().unwrap()).unwrap(), "manifest").unwrap();
    let terms = Terms::generator_only();
    let terms = if manifest.resumes > 0 { terms.allowing_copies() } else { terms };
    verifier::judge_async(&stores, &run, &terms).await.unwrap()
}
