//! Who may have another series. `total` is never exceeded, and every workload can have what it is guaranteed:
//! what others have beyond their own share is lent, and taken back when the owner comes.

use super::series::State;
use super::table::SeriesTable;
use crate::services::OTHER;

impl SeriesTable {
    /// Whether a workload may have one more series; takes one back from another workload if need be.
    pub(super) fn admit(&mut self, workload: u32, per_service: usize) -> bool {
        if !self.has_room(workload, per_service) {
            return false;
        }
        self.counted < self.limits.total || self.take_back()
    }

    /// Whether a workload may have one more series, if need be at another one's cost.
    pub(crate) fn has_room(&self, workload: u32, per_service: usize) -> bool {
        let series = self.series_of(workload);
        let is_free = self.counted < self.limits.total;
        series < per_service && (is_free || series < self.guaranteed_to(workload))
    }

    fn series_of(&self, workload: u32) -> usize {
        self.accounts
            .get(&workload)
            .map_or(0, |account| account.series)
    }

    /// The stand-in is no service: with a share of its own there would be more shares than `total` has.
    fn guaranteed_to(&self, workload: u32) -> usize {
        if workload == OTHER {
            0
        } else {
            self.guaranteed()
        }
    }

    /// Ends the series that was idle the longest of the workload that exceeds its share the most. Its values stay
    /// where they are until they are delivered; what would follow goes to the overflow series.
    fn take_back(&mut self) -> bool {
        // Looking for one is slow: once in vain is enough until something can have changed.
        if self.no_victim_in == Some(self.generation) {
            return false;
        }
        let excess = |(workload, series): (u32, usize)| {
            let excess = series.checked_sub(self.guaranteed_to(workload))?;
            (excess > 0).then_some((excess, workload))
        };
        let debtor = self
            .accounts
            .iter()
            .filter_map(|(workload, account)| excess((*workload, account.series)))
            .max();
        let victim = debtor.and_then(|(_, workload)| self.idlest_of(workload));
        let Some(slot) = victim else {
            self.no_victim_in = Some(self.generation);
            return false;
        };
        self.end_early(slot);
        true
    }

    fn idlest_of(&self, workload: u32) -> Option<usize> {
        let series = self.slots.iter().enumerate();
        series
            .filter_map(|(slot, series)| Some((slot, series.as_ref()?)))
            .filter(|(_, series)| !series.has_left && !series.key.is_overflow())
            .filter(|(_, series)| {
                let stream = self.streams[series.key.stream as usize].as_ref();
                stream.is_some_and(|stream| stream.workload == workload)
            })
            .min_by_key(|(_, series)| series.last_used_ns)
            .map(|(slot, _)| slot)
    }

    fn end_early(&mut self, slot: usize) {
        let Some(series) = &mut self.slots[slot] else {
            return;
        };
        series.has_left = true;
        if series.state == State::Live {
            series.state = State::Leaving;
        }
        self.counted -= 1;
        let stream = self.streams[series.key.stream as usize].as_ref();
        let account = stream.and_then(|stream| self.accounts.get_mut(&stream.workload));
        if let Some(account) = account {
            account.series -= 1;
        }
    }
}
