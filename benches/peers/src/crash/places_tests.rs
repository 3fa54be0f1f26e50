use std::io::Write;

use super::*;
use crate::crash::message::message;

/// A line as the journal's own command writes it.
fn line(id: u64, client: u32, n: u64) -> String {
    let sent = message(1, client, n);
    let key: String = sent.key.iter().map(|byte| format!("{byte:02x}")).collect();
    let body = STANDARD.encode(sent.body);
    format!(
        r#"{{"id":{id},"topic":"sunk/{client}","principal":"p","key":"{key}","trace_id":null,"time":"x","body":"{body}"}}"#
    )
}

/// A file that a sink writes, and who reads it.
fn sink(name: &str) -> (PathBuf, Sink) {
    let folder = std::env::temp_dir().join(format!("peers-places-{}-{name}", std::process::id()));
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("out.jsonl");
    let sink = Sink::parse(&format!("file:{}", path.display())).unwrap();
    (path, sink)
}

#[test]
fn lines_are_taken_once_they_are_whole_and_a_cut_one_is_not_taken_for_new() {
    let (path, mut sink) = sink("cut");
    let mut findings = Findings::default();
    sink.read(1, &mut findings);
    let mut file = File::create(&path).unwrap();
    let second = line(2, 0, 1);
    write!(file, "{}\n{}", line(1, 0, 0), &second[..40]).unwrap();
    sink.read(1, &mut findings);
    assert_eq!(findings.found, [Found { client: 0, n: 0, id: 1 }]);
    // A crash, and a start that cuts what is not whole.
    file.set_len(line(1, 0, 0).len() as u64 + 1).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    writeln!(file, "{second}").unwrap();
    sink.read(1, &mut findings);
    assert_eq!(findings.found[1], Found { client: 0, n: 1, id: 2 });
    assert_eq!(findings.strange.strange, 0, "{:?}", findings.strange.told);
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[test]
fn rotated_files_are_followed_and_read_again_in_order() {
    let (path, mut sink) = sink("rotated");
    let mut findings = Findings::default();
    for n in 0..3u64 {
        fs::write(&path, line(n + 1, 5, n) + "\n").unwrap();
        sink.read(1, &mut findings);
        if n < 2 {
            fs::rename(&path, path.with_extension(format!("jsonl.{n}"))).unwrap();
        }
    }
    let all = sink.read_all(1, Findings::default()).unwrap();
    assert_eq!(all.found, findings.found);
    assert_eq!(all.found.iter().map(|found| found.n).collect::<Vec<_>>(), [0, 1, 2]);
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[test]
fn what_is_no_message_is_strange_and_a_changed_one_too() {
    let mut findings = Findings::default();
    findings.take(1, "sink", Raw::parse("{\"id\":1"));
    findings.take(1, "sink", Raw::parse(&line(1, 0, 0).replace("sunk/0", "sunk/1")));
    findings.take(2, "sink", Raw::parse(&line(1, 0, 0)));
    assert_eq!((findings.found.len(), findings.strange.strange), (0, 3));
}

#[test]
fn a_streams_entry_has_fields_by_name() {
    let sent = message(1, 3, 4);
    let key: String = sent.key.iter().map(|byte| format!("{byte:02x}")).collect();
    let fields = ["id", "9", "topic", "sunk/3", "key", key.as_str()].map(|text| text.as_bytes().to_vec());
    let fields = [&fields[..], &[b"body".to_vec(), sent.body]].concat();
    let mut findings = Findings::default();
    findings.take(1, "sink", raw_of_fields(&fields));
    assert_eq!(findings.found, [Found { client: 3, n: 4, id: 9 }]);
    assert!(raw_of_fields(&fields[2..]).is_err());
}
