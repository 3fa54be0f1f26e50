//! Micro benchmarks of what happens to a frame between two system calls.
//!
//! ```text
//! cargo bench                      nanoseconds of each workload
//! cargo bench -- conn_             those with this in their name
//! scripts/instructions.sh          instructions of each, against the committed baseline
//! ```

mod codec;
mod connection;
mod harness;
mod tables;

use harness::Case;

fn main() {
    let cases: Vec<Case> = [codec::CASES, connection::CASES, tables::CASES].concat();
    // cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => cases.iter().for_each(|case| println!("{}", case.name)),
        ["--count", name] => match cases.iter().find(|case| case.name == name) {
            Some(case) => harness::count(case),
            None => fail(&format!("no workload is called {name}; --list has them")),
        },
        ref wanted => {
            let wanted: Vec<_> = cases.iter().filter(|case| is_wanted(case, wanted)).collect();
            if wanted.is_empty() {
                fail("no workload has that in its name; --list has them");
            }
            harness::time(&wanted);
        }
    }
}

fn is_wanted(case: &Case, wanted: &[&str]) -> bool {
    wanted.is_empty() || wanted.iter().any(|part| case.name.contains(part))
}

fn fail(why: &str) -> ! {
    eprintln!("frames: {why}");
    std::process::exit(2)
}
