use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use super::super::testing::message;
use super::*;

fn sink(dir: &TempDir, options: &str) -> FileSink {
    let path = dir.path().join("out.jsonl");
    FileSink::new(Options::parse(&format!("{}{options}", path.display())).unwrap())
}

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("out.jsonl")
}

fn deliver(sink: &mut FileSink, ids: impl IntoIterator<Item = u64>) -> Result<usize, Down> {
    let messages: Vec<Message> = ids.into_iter().map(|id| message(id, "a", &format!("body {id}"))).collect();
    let mut outcomes = Vec::new();
    let result = sink.deliver(&messages.iter().collect::<Vec<_>>(), &mut outcomes);
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Delivered));
    result.map(|()| outcomes.len())
}

/// The ids in all files, the oldest first.
fn ids(dir: &TempDir) -> Vec<u64> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The one without a number is the newest.
    files.sort_by_key(|file| (*file == path(dir), file.clone()));
    let mut ids = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{}", file.display());
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            ids.push(line["id"].as_u64().unwrap());
        }
    }
    ids
}

#[test]
fn messages_are_lines_in_their_order() {
    let dir = TempDir::new().unwrap();
    let mut sink = sink(&dir, "");
    assert_eq!(sink.open(0), Ok(0));
    assert_eq!(deliver(&mut sink, 1..=3), Ok(3));
    assert_eq!(deliver(&mut sink, 7..=9), Ok(3));
    sink.close().unwrap();
    let mut wanted = Vec::new();
    json::write_line(&mut wanted, &message(1, "a", "body 1"));
    assert!(fs::read(path(&dir)).unwrap().starts_with(&wanted));
    assert_eq!(ids(&dir), [1, 2, 3, 7, 8, 9]);
}

#[test]
fn nothing_is_there_twice_wherever_a_crash_has_cut_the_file() {
    let dir = TempDir::new().unwrap();
    let mut first = sink(&dir, "");
    first.open(0).unwrap();
    deliver(&mut first, 1..=20).unwrap();
    drop(first);
    let whole = fs::read(path(&dir)).unwrap();
    for cut in (0..whole.len()).rev().step_by(7) {
        fs::write(path(&dir), &whole[..cut]).unwrap();
        let mut sink = sink(&dir, "");
        // Of what it has, the journal knows only this.
        let known = ids_before(&whole[..cut]).min(4);
        assert_eq!(sink.open(known), Ok(known));
        assert_eq!(deliver(&mut sink, known + 1..=25), Ok(25 - known as usize));
        assert_eq!(ids(&dir), (1..=25).collect::<Vec<u64>>(), "cut at {cut}");
    }
}

fn ids_before(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[test]
fn a_line_of_another_journal_with_the_same_id_is_not_taken_for_ours() {
    let dir = TempDir::new().unwrap();
    let mut line = Vec::new();
    json::write_line(&mut line, &message(1, "a", "of a journal that was deleted"));
    fs::write(path(&dir), &line).unwrap();
    let mut sink = sink(&dir, "");
    sink.open(0).unwrap();
    deliver(&mut sink, 1..=2).unwrap();
    assert_eq!(ids(&dir), [1, 1, 2]);
}

#[test]
fn files_are_rotated_by_size_and_the_oldest_deleted() {
    let dir = TempDir::new().unwrap();
    let mut sink = sink(&dir, "?max_bytes=1024&keep=2");
    sink.open(0).unwrap();
    for id in 1..=40 {
        deliver(&mut sink, [id]).unwrap();
    }
    let names = |dir: &TempDir| -> Vec<String> {
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    assert_eq!(names(&dir).len(), 3, "{:?}", names(&dir));
    assert!(names(&dir)[2].as_str() > "out.jsonl.000000003");
    for name in names(&dir) {
        assert!(fs::metadata(dir.path().join(&name)).unwrap().len() <= 1024, "{name}");
    }
    let left = ids(&dir);
    assert_eq!(left, (left[0]..=40).collect::<Vec<u64>>(), "of the newest none is missing");
}

#[test]
fn one_batch_that_fills_several_files_is_known_after_a_crash() {
    let dir = TempDir::new().unwrap();
    let mut first = sink(&dir, "?max_bytes=1024");
    first.open(0).unwrap();
    assert_eq!(deliver(&mut first, 1..=50), Ok(50));
    drop(first);
    // Killed between the renaming and the new file.
    let files = fs::read_dir(dir.path()).unwrap().count();
    fs::rename(path(&dir), dir.path().join(format!("out.jsonl.{files:09}"))).unwrap();
    let mut second = sink(&dir, "?max_bytes=1024");
    second.open(3).unwrap();
    assert_eq!(deliver(&mut second, 4..=60), Ok(57));
    assert_eq!(ids(&dir), (1..=60).collect::<Vec<u64>>());
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew() {
    let dir = TempDir::new().unwrap();
    let mut sink = sink(&dir, "");
    sink.open(0).unwrap();
    deliver(&mut sink, [1]).unwrap();
    fs::rename(path(&dir), dir.path().join("moved")).unwrap();
    deliver(&mut sink, [2]).unwrap();
    assert_eq!(fs::read_to_string(path(&dir)).unwrap().lines().count(), 1);
    assert_eq!(fs::read_to_string(dir.path().join("moved")).unwrap().lines().count(), 1);
}

#[test]
fn a_second_writer_is_kept_out_and_the_end_of_a_foreign_file_is_not_cut() {
    let dir = TempDir::new().unwrap();
    let mut first = sink(&dir, "");
    first.open(0).unwrap();
    let why = sink(&dir, "").open(0).unwrap_err().0;
    assert!(why.contains("of its own"), "{why}");
    first.close().unwrap();
    fs::write(path(&dir), "my notes, without an end").unwrap();
    let why = first.open(0).unwrap_err().0;
    assert!(why.contains("nothing is cut off"), "{why}");
    assert_eq!(fs::read_to_string(path(&dir)).unwrap(), "my notes, without an end");
}

#[test]
fn where_nothing_can_be_written_the_sink_is_down_and_goes_on_later() {
    let dir = TempDir::new().unwrap();
    let there = dir.path().join("not/there");
    let mut sink = FileSink::new(Options::parse(&format!("{}/out.jsonl", there.display())).unwrap());
    assert!(sink.open(0).unwrap_err().0.contains("cannot open"));
    assert!(deliver(&mut sink, [1]).is_err());
    fs::create_dir_all(&there).unwrap();
    sink.open(0).unwrap();
    assert_eq!(deliver(&mut sink, [1]), Ok(1));
    let full = FileSink::new(Options::parse("/dev/full").unwrap()).open(0).unwrap_err().0;
    assert!(full.contains("not a plain file"), "{full}");
}

#[test]
fn what_could_not_be_brought_to_the_disk_is_cut_off_and_written_anew() {
    let dir = TempDir::new().unwrap();
    let mut sink = sink(&dir, "");
    sink.open(0).unwrap();
    deliver(&mut sink, [1]).unwrap();
    let len = fs::metadata(path(&dir)).unwrap().len();
    // A descriptor that can't be written to, in the place of a disk that fails.
    let current = sink.file.as_mut().unwrap();
    current.file = File::open(path(&dir)).unwrap();
    assert!(deliver(&mut sink, [2]).unwrap_err().0.contains("cannot write"));
    // Half of a line got there.
    OpenOptions::new().write(true).open(path(&dir)).unwrap().write_all_at(b"{\"id\":2,", len).unwrap();
    sink.open(1).unwrap();
    deliver(&mut sink, [2]).unwrap();
    assert_eq!(ids(&dir), [1, 2]);
}

#[test]
fn options_are_read_and_mistakes_are_named() {
    let read = |text: &str| Options::parse(text).unwrap();
    assert_eq!(read("/a/b?c"), Options { path: "/a/b?c".into(), max_bytes: 256 << 20, keep: 0, sync: true });
    let wanted = Options { path: "b".into(), max_bytes: 4096, keep: 3, sync: false };
    assert_eq!(read("b?max_bytes=4096&keep=3&sync=no"), wanted);
    for (wrong, word) in [
        ("", "path"),
        ("/a/", "path"),
        ("a?max_bytes=x", "bytes"),
        ("a?max_bytes=5", "1024"),
        ("a?keep=-1", "number of files"),
        ("a?sync=maybe", "yes or no"),
        ("a?color=red", "options are"),
    ] {
        let why = Options::parse(wrong).unwrap_err();
        assert!(why.contains(word), "{wrong}: {why}");
    }
}
