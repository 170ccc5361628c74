//! The pull: the latest collection as a page that Prometheus scrapes, with native histograms and exemplars over
//! protobuf where it asks for them, and as `OpenMetrics` or plain text otherwise.

mod buckets;
mod family;
mod name;
mod negotiate;
mod page;
mod protobuf;
mod server;
mod text;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use kerntally_model::{
    Attribute, Exemplar, Instrument, Point, ProcessKey, Snapshot, WorkloadSnapshot,
};
use tokio::sync::Semaphore;

use crate::resource::ResourceTemplate;
use negotiate::Format;
use page::Page;

pub use server::serve;

/// Address of the pull when it is asked for without one.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9470);

/// Scrapes at one time: each holds a collection and a chunk of its page.
const SCRAPES: usize = 2;

/// Something that holds a snapshot.
pub type Held = Arc<dyn AsRef<Snapshot> + Send + Sync>;

/// What is scraped: the latest collection.
pub struct Pull {
    latest: Mutex<Arc<Exposed>>,
    scrapes: Arc<Semaphore>,
}

/// One collection, and the exemplars to show with it.
struct Exposed {
    resources: ResourceTemplate,
    snapshot: Held,
    /// The latest exemplars of each series, those of earlier collections too: a collection hands each over once,
    /// and a scrape may come after several.
    exemplars: HashMap<SeriesId, Vec<Exemplar>>,
}

/// A series, as long as the collection that it is in exists: its attributes are shared from one to the next.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct SeriesId {
    workload: usize,
    process: Option<ProcessKey>,
    instrument: Instrument,
    attributes: usize,
}

impl Pull {
    /// Nothing to scrape yet.
    pub fn new(resources: ResourceTemplate) -> Self {
        let nothing = Exposed {
            resources,
            snapshot: Arc::new(Nothing(Snapshot::default())),
            exemplars: HashMap::new(),
        };
        Self {
            latest: Mutex::new(Arc::new(nothing)),
            scrapes: Arc::new(Semaphore::new(SCRAPES)),
        }
    }

    /// Takes the place of what was scraped before. Its points must be cumulative.
    pub fn publish(&self, resources: ResourceTemplate, snapshot: Held) {
        let before = self.latest();
        let exemplars = before.carry_on((*snapshot).as_ref());
        let exposed = Arc::new(Exposed {
            resources,
            snapshot,
            exemplars,
        });
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = exposed;
    }

    /// The page in the form that an `Accept` header asks for, chunk by chunk.
    pub fn page(&self, accept: &str) -> impl Iterator<Item = Bytes> + use<> {
        let mut page = Page::new(self.latest(), Format::accepted(accept), false);
        std::iter::from_fn(move || page.chunk())
    }

    fn latest(&self) -> Arc<Exposed> {
        Arc::clone(&self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pull")
    }
}

impl Exposed {
    fn workloads(&self) -> &[WorkloadSnapshot] {
        &(*self.snapshot).as_ref().workloads
    }

    fn exemplars(&self, id: SeriesId) -> &[Exemplar] {
        self.exemplars.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The exemplars of the next collection: its own, else the ones its series had before.
    fn carry_on(&self, next: &Snapshot) -> HashMap<SeriesId, Vec<Exemplar>> {
        let mut exemplars = HashMap::new();
        for workload in &next.workloads {
            for instrument in &workload.instruments {
                for point in &instrument.points {
                    let id = SeriesId::new(workload, instrument.instrument, point);
                    let shown = if point.exemplars.is_empty() {
                        self.exemplars(id)
                    } else {
                        &point.exemplars
                    };
                    if !shown.is_empty() {
                        exemplars.insert(id, shown.to_vec());
                    }
                }
            }
        }
        exemplars
    }
}

impl SeriesId {
    fn new(workload: &WorkloadSnapshot, instrument: Instrument, point: &Point) -> Self {
        let attributes: *const [Attribute] = Arc::as_ptr(&point.attributes);
        Self {
            workload: Arc::as_ptr(&workload.workload).addr(),
            process: workload.process,
            instrument,
            attributes: attributes.addr(),
        }
    }
}

struct Nothing(Snapshot);

impl AsRef<Snapshot> for Nothing {
    fn as_ref(&self) -> &Snapshot {
        &self.0
    }
}

#[cfg(test)]
mod tests;
