//! From the stores to the verdict: dead letters and offsets first, then the topic, the lake, the table.

use std::collections::{HashMap, HashSet};

use crate::database::{Counts, Database, OffsetRow};
use crate::equations::weigh;
use crate::field;
use crate::lake::{Files, read_files};
use crate::ledger::Ledger;
use crate::store::{LakeAt, Store};
use crate::topic::{Span, Topic};
use crate::{Error, Run, Verdict};
use uuid::Uuid;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Kafka.
    pub bootstrap_servers: String,
    /// PostgreSQL, as a libpq URL; plain connections only.
    pub database_url: String,
    /// S3 or a folder.
    pub lake: LakeAt,
}

/// What to judge.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The consumer group that was to bring the run into the table. `None`: the generator alone is judged, PostgreSQL
    /// is not asked.
    pub group: Option<String>,
    /// Also account for the records that are not the run's, and for the group's own counts. Right where the group has
    /// read the topic from its beginning, and no other group fills the same table.
    pub whole_topic: bool,
    /// The run was resumed or sent again: Kafka may hold more identical copies than the manifest says.
    pub copies: bool,
    /// Rows also came from elsewhere, such as a rebuild from the lake: the group may count as duplicates what it found.
    pub rebuilt: bool,
    /// IDs of other producers' events whose rows triggers suppress, each of them; no other row is suppressed then. `None`: any
    /// row may be.
    pub suppressed: Option<HashSet<u128>>,
    /// Counts of the group when the topic was recreated: they are those of the topic's predecessors.
    pub earlier: Counts,
}

impl Terms {
    /// All of it, for a consumer group.
    #[must_use]
    pub fn for_group(group: &str) -> Self {
        Self { group: Some(group.to_owned()), whole_topic: true, ..Self::generator_only() }
    }

    /// Kafka and lake alone.
    #[must_use]
    pub fn generator_only() -> Self {
        let earlier = Counts::default();
        Self { group: None, whole_topic: false, copies: false, rebuilt: false, suppressed: None, earlier }
    }

    /// Leaves out what is not of the run.
    #[must_use]
    pub fn of_the_run_only(mut self) -> Self {
        self.whole_topic = false;
        self
    }

    /// Allows rows that did not come from Kafka.
    #[must_use]
    pub fn with_rows_from_elsewhere(mut self) -> Self {
        self.rebuilt = true;
        self
    }

    /// Names the only events of which a trigger suppresses the rows: events of other producers.
    #[must_use]
    pub fn with_suppressed(mut self, ids: impl IntoIterator<Item = Uuid>) -> Self {
        self.suppressed = Some(ids.into_iter().map(|id| id.as_u128()).collect());
        self
    }

    /// Leaves out what the group had counted of earlier topics of that name.
    #[must_use]
    pub fn since(mut self, earlier: Counts) -> Self {
        self.earlier = earlier;
        self
    }

    /// Allows identical copies in Kafka.
    #[must_use]
    pub fn allowing_copies(mut self) -> Self {
        self.copies = true;
        self
    }
}

/// All that was gathered.
pub(crate) struct Seen<'a> {
    pub(crate) run: &'a Run,
    pub(crate) terms: &'a Terms,
    pub(crate) ledger: Ledger,
    pub(crate) spans: HashMap<i32, Span>,
    pub(crate) offsets: HashMap<i32, OffsetRow>,
    pub(crate) files: Files,
    /// Whether PostgreSQL was asked.
    pub(crate) with_table: bool,
}

/// Reads the stores and judges the run. They must have come to rest. Blocks; may be called from within a runtime too,
/// since it works on a thread of its own.
pub fn judge(stores: &Stores, run: &Run, terms: &Terms) -> Result<Verdict, Error> {
    on_own_thread(|| gather(stores, run, terms)).map(|seen| weigh(&seen))
}

/// The same without blocking the caller's runtime.
pub async fn judge_async(stores: &Stores, run: &Run, terms: &Terms) -> Result<Verdict, Error> {
    let (stores, run, terms) = (stores.clone(), run.clone(), terms.clone());
    let verdict = tokio::task::spawn_blocking(move || judge(&stores, &run, &terms)).await;
    verdict.map_err(|e| Error::Thread(e.to_string()))?
}

/// Reads what a group has counted so far.
pub fn count(stores: &Stores, group: &str, topic: &str) -> Result<Counts, Error> {
    on_own_thread(|| async { Database::open(&stores.database_url).await?.offsets(group, topic).await })
}

/// Reads a run's manifest, `runs/<run>.json`, from the lake.
pub fn fetch_run(lake: &LakeAt, run_id: &str) -> Result<Run, Error> {
    let key = format!("runs/{run_id}.json");
    let bytes = on_own_thread(|| async { Store::open(lake).await.get(&key).await })?;
    Run::parse(&String::from_utf8_lossy(&bytes), &key)
}

fn on_own_thread<T: Send, F: Future<Output = Result<T, Error>>>(work: impl FnOnce() -> F + Send) -> Result<T, Error> {
    let body = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| Error::Thread(e.to_string()))?.block_on(work())
    };
    std::thread::scope(|scope| scope.spawn(body).join()).map_err(|_| Error::Thread("it panicked".to_owned()))?
}

async fn gather<'a>(stores: &Stores, run: &'a Run, terms: &'a Terms) -> Result<Seen<'a>, Error> {
    field::check().map_err(Error::Schema)?;
    let mut seen = Seen {
        run,
        terms,
        ledger: Ledger::new(run, terms.whole_topic),
        spans: HashMap::new(),
        offsets: HashMap::new(),
        files: Files::default(),
        with_table: run.kafka.is_some() && terms.group.is_some(),
    };
    let mut database = None;
    if let (Some(kafka), Some(group)) = (&run.kafka, &terms.group) {
        let snapshot = Database::open(&stores.database_url).await?;
        seen.offsets = snapshot.offsets(group, &kafka.topic).await?.since(&terms.earlier).0;
        let incarnation = seen.offsets.values().map(|row| row.incarnation).max().unwrap_or(1);
        snapshot.letters(group, &kafka.topic, incarnation, &mut seen.ledger).await?;
        database = Some(snapshot);
    }
    if let Some(kafka) = &run.kafka {
        let topic = Topic::open(&stores.bootstrap_servers, &kafka.topic)?;
        seen.spans = topic.spans()?;
        topic.scan(&seen.spans, &mut seen.ledger)?;
    }
    if run.lake.is_some() {
        let store = Store::open(&stores.lake).await;
        seen.files = read_files(&store, &run.id, &mut seen.ledger).await?;
    }
    if let Some(snapshot) = database {
        snapshot.table(&mut seen.ledger).await?;
    }
    Ok(seen)
}
