//! Prints every exchange on this machine for a while: the kernel side alone, for those who work on it.
fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10u64);
    let mut session = match kerntally_probes::Session::load(&kerntally_probes::Options::default()) {
        Ok(session) => session,
        Err(error) => { eprintln!("{error}"); std::process::exit(3) }
    };
    session.attach().unwrap();
    println!("{:?} {:?}", session.backend(), session.refused());
    for stat in session.program_stats() { if stat.verified_insns > 0 { println!("{stat:?}"); } }
    println!("maps {} KiB", session.map_bytes() / 1024);
    let quiet = std::env::var_os("QUIET").is_some();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let mut n = 0;
    while std::time::Instant::now() < until {
        n += session.drain(|record| if !quiet { match record {
            kerntally_probes::Record::Exchange(view) => println!("{} tgid {} seq {} status {} {:?} {} us flags {:x} {:?} <- {:?} {:?} req {} resp {}", view.record.role, view.record.tgid, view.record.sequence, view.record.status, view.end,
                (view.record.end_ns - view.record.start_ns) / 1000, view.record.flags, view.local(), view.remote(), String::from_utf8_lossy(&view.head[..view.head.len().min(60)]), view.record.request_bytes, view.record.response_bytes),
            kerntally_probes::Record::Process(view) => println!("process {} {} event {}", view.record.tgid, view.comm(), view.record.event),
        }});
        session.sweep().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let counters = session.counters().unwrap();
    for counter in kerntally_abi::COUNTERS { if counters.value(*counter) > 0 { println!("{} {}", counter.name(), counters.value(*counter)); } }
    println!("records {n} open {:?}", session.open());
    for stat in session.program_stats() { if stat.run_count > 0 { println!("{} {} ns/run", stat.name, stat.run_time_ns / stat.run_count); } }
}
