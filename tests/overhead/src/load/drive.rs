//! Plays a plan on this thread: each line of its input has a slice measured, for which it prints `begun`, `ended` and the
//! report; at the end of its input it prints what became of all.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::connection::{Answer, Connection};
use super::{Plan, Report};
use crate::clock::nanos_of;
use crate::system;

/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest sleep while nothing is measured.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who an event is about, where it is no connection: the input.
const INPUT: u64 = u64::MAX;

struct Drive<'plan> {
    plan: &'plan Plan,
    poll: OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    request: Vec<u8>,
    number: u64,
    /// At a fixed rate, requests from this number on are due from this moment on.
    paced: (u64, Instant),
    under_way: usize,
    sent: u64,
    errors: u64,
    /// Slices that are still to be measured.
    ordered: usize,
    /// Whether there may be more.
    is_wanted: bool,
    slice: Option<Slice>,
    latencies: Histogram<u64>,
}

/// What is measured at the moment, and how things stood when it began.
struct Slice {
    begun: Instant,
    end: Instant,
    requests: u64,
    errors: u64,
    own: u64,
    clocks: Vec<u64>,
}

/// Plays the plan on one core.
pub(crate) fn drive(plan: &Plan, core: usize) -> Result<()> {
    kerntally_e2e::load::raise_descriptors();
    system::pin_self(core)?;
    // Without it the kernel may wake this thread 50 us late, which would stand in every latency.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    let mut drive = Drive::new(plan)?;
    drive.connect()?;
    drive.run()
}

impl<'plan> Drive<'plan> {
    fn new(plan: &'plan Plan) -> Result<Self> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        let input = EventData::new_u64(INPUT);
        epoll::add(&poll, std::io::stdin(), input, EventFlags::IN).context("watching the input")?;
        Ok(Self {
            plan,
            poll,
            connections: Vec::with_capacity(plan.connections),
            idle: VecDeque::with_capacity(plan.connections),
            request: Vec::new(),
            number: 0,
            paced: (0, Instant::now()),
            under_way: 0,
            sent: 0,
            errors: 0,
            ordered: 0,
            is_wanted: true,
            slice: None,
            // A nanosecond to a minute, to three digits.
            latencies: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
        })
    }

    fn connect(&mut self) -> Result<()> {
        for number in 0..self.plan.connections {
            let address = self.plan.addresses[number % self.plan.addresses.len()];
            let connection = Connection::open(address).with_context(|| address.to_string())?;
            self.register(&connection, number)?;
            self.connections.push(connection);
            self.idle.push_back(number);
        }
        Ok(())
    }

    fn register(&self, connection: &Connection, slot: usize) -> Result<()> {
        let data = EventData::new_u64(slot as u64);
        Ok(epoll::add(
            &self.poll,
            &connection.stream,
            data,
            EventFlags::IN,
        )?)
    }

    fn run(&mut self) -> Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        let mut buffer = vec![0; 256 * 1024];
        self.paced.1 = Instant::now();
        let warm = self.paced.1 + Duration::from_millis(self.plan.warm_millis);
        while self.is_wanted || self.slice.is_some() {
            let now = Instant::now();
            if self.slice.as_ref().is_some_and(|slice| now >= slice.end) {
                self.end_slice(now)?;
            }
            if self.slice.is_none() && self.ordered > 0 && now >= warm {
                self.begin_slice()?;
            }
            self.send(now)?;
            self.receive(&mut events, &mut buffer, self.wait(now))?;
        }
        self.finish(&mut events, &mut buffer)
    }

    /// What was due before and could not be sent yet is not owed any more: no slice begins with the queue of another.
    fn begin_slice(&mut self) -> Result<()> {
        self.ordered -= 1;
        self.latencies.reset();
        let (own, clocks) = (nanos_of(std::process::id())?, self.clocks()?);
        let begun = Instant::now();
        self.paced = (self.number, begun);
        self.slice = Some(Slice {
            begun,
            end: begun + Duration::from_millis(self.plan.millis),
            requests: 0,
            errors: self.errors,
            own,
            clocks,
        });
        println!("begun");
        Ok(())
    }

    fn end_slice(&mut self, now: Instant) -> Result<()> {
        let Some(slice) = self.slice.take() else {
            return Ok(());
        };
        let clocks = self.clocks()?.into_iter().zip(slice.clocks);
        let report = Report {
            sent: self.sent,
            requests: slice.requests,
            errors: self.errors - slice.errors,
            elapsed: nanos(now - slice.begun),
            processor: nanos_of(std::process::id())? - slice.own,
            clocks: clocks.map(|(after, before)| after - before).collect(),
            median: self.latencies.value_at_quantile(0.5),
            p99: self.latencies.value_at_quantile(0.99),
            p999: self.latencies.value_at_quantile(0.999),
            longest: self.latencies.max(),
        };
        println!("ended\n{}", serde_json::to_string(&report)?);
        Ok(())
    }

    fn clocks(&self) -> Result<Vec<u64>> {
        self.plan.clocks.iter().map(|pid| nanos_of(*pid)).collect()
    }

    /// When the next request is due.
    fn due(&self, now: Instant) -> Instant {
        let (first, from) = self.paced;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let offset = |rate| Duration::from_secs_f64((self.number - first) as f64 / rate);
        self.plan.rate.map_or(now, |rate| from + offset(rate))
    }

    fn send(&mut self, now: Instant) -> Result<()> {
        while let Some(slot) = self.idle.front().copied() {
            let due = self.due(now);
            if due > now {
                break;
            }
            self.idle.pop_front();
            self.plan.asked.write(self.number, &mut self.request);
            self.number += 1;
            if self.connections[slot].ask(&self.request, due).is_ok() {
                self.under_way += 1;
            } else {
                self.renew(slot)?;
                self.errors += 1;
            }
        }
        Ok(())
    }

    /// How long there is nothing to send.
    fn wait(&self, now: Instant) -> Duration {
        let end = self
            .slice
            .as_ref()
            .map_or(now + LOOK_EVERY, |slice| slice.end);
        let until_end = end.saturating_duration_since(now);
        if self.idle.is_empty() {
            return until_end;
        }
        let until_due = self.due(now).saturating_duration_since(Instant::now());
        until_due.min(until_end)
    }

    fn receive(
        &mut self,
        events: &mut Vec<Event>,
        buffer: &mut [u8],
        wait: Duration,
    ) -> Result<()> {
        events.clear();
        if self.ready(events)? == 0 && self.sleep(wait)? {
            self.ready(events)?;
        }
        for event in events.iter() {
            match event.data.u64() {
                INPUT => self.ordered()?,
                slot => self.answered(usize::try_from(slot)?, buffer)?,
            }
        }
        Ok(())
    }

    /// Takes an order in: a line, which comes when what was ordered before is done.
    fn ordered(&mut self) -> Result<()> {
        let mut order = String::new();
        let length = std::io::stdin().read_line(&mut order);
        if length.context("reading an order")? > 0 {
            self.ordered += 1;
            return Ok(());
        }
        self.is_wanted = false;
        Ok(epoll::delete(&self.poll, std::io::stdin())?)
    }

    /// Answers that have come by now.
    fn ready(&self, events: &mut Vec<Event>) -> Result<usize> {
        let now = Timespec::default();
        match epoll::wait(&self.poll, spare_capacity(events), Some(&now)) {
            Err(Errno::INTR) => Ok(0),
            ready => ready.context("waiting"),
        }
    }

    /// Sleeps until an answer comes, at most for so long; whether one came. The wait that comes with epoll is in whole
    /// milliseconds, after which all that was due meanwhile would be sent at once.
    fn sleep(&self, wait: Duration) -> Result<bool> {
        let timeout = Timespec {
            tv_sec: i64::try_from(wait.as_secs())?,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut polled = [PollFd::new(&self.poll, PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            Err(Errno::INTR) => Ok(false),
            ready => Ok(ready.context("waiting")? > 0),
        }
    }

    fn answered(&mut self, slot: usize, buffer: &mut [u8]) -> Result<()> {
        let connection = &mut self.connections[slot];
        let answer = connection.take(buffer);
        if answer == Answer::Unfinished {
            return Ok(());
        }
        let due = connection.due.take();
        if let Some(due) = due {
            self.under_way -= 1;
            if answer == Answer::Broken {
                self.errors += 1;
            } else {
                self.count(due);
            }
        }
        if answer != Answer::Whole {
            self.renew(slot)?;
        } else if due.is_some() {
            self.idle.push_back(slot);
        }
        Ok(())
    }

    fn count(&mut self, due: Instant) {
        self.sent += 1;
        let now = Instant::now();
        if let Some(slice) = &mut self.slice
            && due >= slice.begun
            && now <= slice.end
        {
            slice.requests += 1;
            // Longer than a minute stays a minute.
            self.latencies.saturating_record(nanos(now - due).max(1));
        }
    }

    /// A new connection in the place of one that ended.
    fn renew(&mut self, slot: usize) -> Result<()> {
        let was_idle = self.idle.contains(&slot);
        let connection = Connection::open(self.connections[slot].address)?;
        self.register(&connection, slot)?;
        self.connections[slot] = connection;
        if !was_idle {
            self.idle.push_back(slot);
        }
        Ok(())
    }

    /// Takes the answers that are still under way, so that what was sent is known to the last one.
    fn finish(&mut self, events: &mut Vec<Event>, buffer: &mut [u8]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.under_way > 0 && Instant::now() < deadline {
            self.receive(events, buffer, Duration::from_millis(50))?;
        }
        let report = Report {
            sent: self.sent,
            errors: self.errors + self.under_way as u64,
            ..Report::default()
        };
        println!("{}", serde_json::to_string(&report)?);
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
