//! Plays a plan on this thread, and prints `begun`, `ended` and the report.

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

struct Drive<'plan> {
    plan: &'plan Plan,
    poll: OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    request: Vec<u8>,
    number: u64,
    under_way: usize,
    /// From here on latencies are kept.
    measured_from: Instant,
    end: Instant,
    latencies: Histogram<u64>,
    report: Report,
}

/// Plays the plan on one core.
pub(crate) fn drive(plan: &Plan, core: usize) -> Result<()> {
    kerntally_e2e::load::raise_descriptors();
    system::pin_self(core)?;
    // Without it the kernel may wake this thread 50 us late, which would stand in every latency.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    let mut drive = Drive::new(plan)?;
    drive.connect()?;
    let begun = Instant::now();
    drive.measured_from = begun + Duration::from_millis(plan.warm_millis);
    drive.end = drive.measured_from + Duration::from_millis(plan.millis);
    drive.run(begun)
}

impl<'plan> Drive<'plan> {
    fn new(plan: &'plan Plan) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            plan,
            poll: epoll::create(CreateFlags::CLOEXEC)?,
            connections: Vec::with_capacity(plan.connections),
            idle: VecDeque::with_capacity(plan.connections),
            request: Vec::new(),
            number: 0,
            under_way: 0,
            measured_from: now,
            end: now,
            // A nanosecond to a minute, to three digits.
            latencies: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
            report: Report::default(),
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

    fn run(&mut self, begun: Instant) -> Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        let mut buffer = vec![0; 256 * 1024];
        let mut processor = 0;
        let mut measuring = false;
        loop {
            let now = Instant::now();
            if !measuring && now >= self.measured_from {
                measuring = true;
                self.measured_from = now;
                processor = nanos_of(std::process::id())?;
                println!("begun");
            }
            if now >= self.end {
                break;
            }
            self.send(begun, now)?;
            self.receive(&mut events, &mut buffer, self.wait(begun, now))?;
        }
        self.report.processor = nanos_of(std::process::id())? - processor;
        self.report.elapsed = nanos(self.measured_from.elapsed());
        println!("ended");
        self.finish(&mut events, &mut buffer)
    }

    /// When the next request is due.
    fn due(&self, begun: Instant, now: Instant) -> Instant {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let offset = |rate| Duration::from_secs_f64(self.number as f64 / rate);
        self.plan.rate.map_or(now, |rate| begun + offset(rate))
    }

    fn send(&mut self, begun: Instant, now: Instant) -> Result<()> {
        while let Some(slot) = self.idle.front().copied() {
            let due = self.due(begun, now);
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
                self.report.errors += 1;
            }
        }
        Ok(())
    }

    /// How long there is nothing to send.
    fn wait(&self, begun: Instant, now: Instant) -> Duration {
        let until_end = self.end.saturating_duration_since(now);
        if self.idle.is_empty() {
            return until_end;
        }
        let until_due = self
            .due(begun, now)
            .saturating_duration_since(Instant::now());
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
            self.answered(usize::try_from(event.data.u64())?, buffer)?;
        }
        Ok(())
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
                self.report.errors += 1;
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
        self.report.sent += 1;
        let now = Instant::now();
        if due >= self.measured_from && now <= self.end {
            self.report.requests += 1;
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
        self.report.errors += self.under_way as u64;
        self.report.median = self.latencies.value_at_quantile(0.5);
        self.report.p99 = self.latencies.value_at_quantile(0.99);
        self.report.p999 = self.latencies.value_at_quantile(0.999);
        self.report.longest = self.latencies.max();
        println!("{}", serde_json::to_string(&self.report)?);
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
