//! Which segments there are, how they follow each other, and the records of one. For starts, checks and repairs.

use std::io;

use super::options::{Cut, Damage, OpenError};
use super::record::{Kind, View};
use super::repair::REPAIRED;
use super::segment::{DATA_START, Found, Header, Page, Scanner, Step, file_name, number_of, search};
use super::storage::{File, Storage};

/// Bytes read at a time by who reads everything.
pub(super) const CHUNK: usize = 1 << 20;

/// The segments of a log.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Those with records, oldest first, and their headers; `None`: both are broken.
    pub pieces: Vec<(u64, Option<Header>)>,
    /// The log's identity, as the newest of them has it.
    pub identity: Option<[u8; 16]>,
    /// Those behind them that were made and not written to, newest first.
    pub empty: Vec<u64>,
    /// Those that had no messages, and whose progress is in their successor: to be removed.
    pub superseded: Vec<u64>,
    /// What is wrong with all this.
    pub faults: Vec<Damage>,
    /// What was written to an empty one and not synced.
    pub torn: Option<Cut>,
    /// The highest number of all files.
    pub newest: u64,
}

/// What a segment has behind its header.
enum Content {
    Records,
    /// So many bytes that are no records, and never were.
    None(u32),
    Damaged(Damage),
}

/// Looks at all segments' first pages.
///
/// # Errors
/// The system refuses.
pub(super) fn survey<S: Storage>(storage: &S) -> Result<Survey, OpenError> {
    let names = storage.list().map_err(|source| refused("list the files", "", source))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    let mut survey = Survey { newest: numbers.last().copied().unwrap_or(0), ..Survey::default() };
    // What the segment behind says is the one before it; `None`: it can't be asked.
    let mut wanted = None;
    let mut behind_the_end = true;
    for number in numbers.into_iter().rev() {
        let name = file_name(number);
        let (page, content) = match look(storage, number, behind_the_end) {
            Ok(looked) => looked,
            // Beside a running server: it was done.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(refused("read", &name, error)),
        };
        if let Page::Version(version) = page {
            let what = format!("format version {version} is not known to this tidegate");
            return Err(refused("read", &name, io::Error::new(io::ErrorKind::Unsupported, what)));
        }
        if let Content::None(bytes) = content {
            if bytes > 0 {
                survey.torn = Some(Cut { file: name, offset: DATA_START.into(), bytes: bytes.into() });
            }
            survey.empty.push(number);
            continue;
        }
        behind_the_end = false;
        if wanted.is_some_and(|wanted| number > wanted) {
            survey.superseded.push(number);
            continue;
        }
        survey.check(number, wanted, &page, content);
        let header = page.header();
        survey.pieces.push((number, header));
        survey.identity = survey.identity.or(header.map(|header| header.identity));
        wanted = header.map(|header| header.previous);
    }
    survey.pieces.reverse();
    survey.faults.reverse();
    survey.faults.extend(interrupted(&names));
    Ok(survey)
}

/// Segments that a repair has put aside, and whose repaired copies have not yet taken their place. Were it the newest,
/// nothing else would say that it is missing.
fn interrupted(names: &[String]) -> impl Iterator<Item = Damage> {
    let missing = names.iter().filter_map(|name| name.strip_suffix(REPAIRED));
    let missing = missing.filter(|name| number_of(name).is_some() && !names.iter().any(|other| other == name));
    missing.map(|name| Damage { file: name.to_owned(), offset: 0, what: INTERRUPTED.to_owned() })
}

/// What is wrong with them.
pub(super) const INTERRUPTED: &str = "a repair of it was interrupted, and has to be run again";

/// What is wrong with a segment that is not the log's.
const FOREIGN: &str = "it belongs to another journal";

impl Survey {
    fn check(&mut self, number: u64, wanted: Option<u64>, page: &Page, content: Content) {
        let mut fault = |number, offset, what: &str| {
            self.faults.push(Damage { file: file_name(number), offset, what: what.to_owned() });
        };
        if let Some(missing) = wanted.filter(|wanted| *wanted != number) {
            fault(missing, 0, "the file is missing");
        }
        match page {
            Page::Half(_, offset) => fault(number, *offset, "one of its two headers is broken"),
            Page::None | Page::Version(_) => fault(number, 0, "its headers are broken"),
            Page::Whole(header) if self.identity.is_some_and(|identity| identity != header.identity) => {
                self.faults.push(Damage { file: file_name(number), offset: 12, what: FOREIGN.to_owned() });
            }
            Page::Whole(_) => {}
        }
        if let Content::Damaged(damage) = content {
            self.faults.push(damage);
        }
    }
}

/// One segment's first page, and if it may be the last, what is behind.
fn look<S: Storage>(storage: &S, number: u64, may_be_last: bool) -> io::Result<(Page, Content)> {
    let file = storage.open(&file_name(number))?;
    let page = Header::read(&file, number)?;
    if !may_be_last {
        return Ok((page, Content::Records));
    }
    let header = match page {
        Page::Whole(header) => header,
        _ => {
            let found = search(&file, 0, DATA_START, |_, _| false)?;
            if found.end == DATA_START {
                return Ok((page, Content::None(0)));
            }
            // Beside a running server, the header may have come meanwhile.
            match Header::read(&file, number)? {
                Page::Whole(header) => header,
                page => return Ok((page, Content::Records)),
            }
        }
    };
    let content = first_record(file, &header)?;
    Ok((Page::Whole(header), content))
}

fn first_record<F: File>(file: F, header: &Header) -> io::Result<Content> {
    let seed = header.seed();
    let mut scanner = Scanner::new(file, seed, DATA_START, 4096);
    let mut retried = false;
    loop {
        let why = match scanner.next()? {
            Step::Record(_, view) if view.begins() => return Ok(Content::Records),
            Step::Record(..) => "a table does not stand at the beginning alone",
            Step::Invalid(why) => why,
        };
        scanner.seek(DATA_START);
        // What was written with the first record may be there without it; what came later may not.
        let found =
            search(scanner.file(), seed, DATA_START, |offset, view| (DATA_START + 1..=offset).contains(&view.synced))?;
        if found.record.is_none() {
            return Ok(Content::None(found.end - DATA_START));
        }
        // Beside a running server, the record may have come meanwhile.
        if retried {
            let damage = Damage { file: file_name(header.number), offset: DATA_START.into(), what: proven(why) };
            return Ok(Content::Damaged(damage));
        }
        retried = true;
    }
}

fn proven(why: &str) -> String {
    format!("{why}, and a record behind it says that it was on the disk")
}

/// What has to grow from record to record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    pub last_id: u64,
    pub last_batch: u64,
}

/// Where the records of a segment end.
#[derive(Clone, Debug, Default)]
pub(super) struct End {
    /// Behind the last record that is valid.
    pub at: u32,
    /// Up to here, all was on the disk.
    pub proven: u32,
    /// More should be there.
    pub damage: Option<Damage>,
    /// Bytes behind the end that were never acknowledged.
    pub torn: u32,
}

/// Reads one segment's records. `expected` is where they end, as its successor says; without one it is the last.
///
/// # Errors
/// The system refuses.
pub(super) fn scan<F: File>(
    file: F,
    header: &Header,
    expected: Option<u32>,
    order: &mut Order,
    mut each: impl FnMut(&View<'_>),
) -> io::Result<End> {
    let mut end = End { at: DATA_START, proven: DATA_START, ..End::default() };
    let mut scanner = Scanner::new(file, header.seed(), DATA_START, CHUNK);
    scan_on(&mut scanner, header, expected, order, &mut end, &mut each)?;
    Ok(end)
}

/// What can't be read in a segment.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    pub damage: Damage,
    pub from: u32,
    pub to: u32,
    /// The last message before it, and the first that can be behind.
    pub after: u64,
    pub before: Option<u64>,
    /// What a record in its place has to say.
    pub batch: u64,
    pub synced: u32,
}

/// The same, but goes on behind what is damaged.
///
/// # Errors
/// The system refuses.
pub(super) fn salvage<F: File>(
    file: F,
    header: &Header,
    expected: Option<u32>,
    order: &mut Order,
    mut each: impl FnMut(&View<'_>),
) -> io::Result<(End, Vec<Gap>)> {
    let mut end = End { at: DATA_START, proven: DATA_START, ..End::default() };
    let mut scanner = Scanner::new(file, header.seed(), DATA_START, CHUNK);
    let mut gaps: Vec<Gap> = Vec::new();
    loop {
        let first = (order.last_id, end.at);
        let mut next_id = None;
        scan_on(&mut scanner, header, expected, order, &mut end, &mut |view| {
            next_id.get_or_insert(view.id);
            each(view);
        })?;
        if let Some(gap) = gaps.last_mut().filter(|gap| gap.before.is_none() && first.1 == gap.to) {
            gap.before = next_id;
        }
        let Some(damage) = end.damage.take() else { return Ok((end, gaps)) };
        let from = end.at;
        let found = search(scanner.file(), header.seed(), from + 1, |offset, view| {
            let in_order = view.batch >= order.last_batch && (end.proven..=offset).contains(&view.synced);
            let fits = expected.is_none_or(|expected| offset < expected);
            let is_new = view.id > order.last_id && view.id >= header.first_id;
            in_order && fits && is_new && view.kind != Kind::Table
        })?;
        let to = found.record.or(expected).unwrap_or(found.end).max(from);
        let (batch, synced) = (order.last_batch, end.proven);
        gaps.push(Gap { damage, from, to, after: order.last_id, before: None, batch, synced });
        end.at = to;
        scanner.seek(to);
        if found.record.is_none() {
            return Ok((end, gaps));
        }
    }
}

/// Reads on from where the scanner is, until the end or damage.
fn scan_on<F: File>(
    scanner: &mut Scanner<F>,
    header: &Header,
    expected: Option<u32>,
    order: &mut Order,
    end: &mut End,
    each: &mut dyn FnMut(&View<'_>),
) -> io::Result<()> {
    let name = file_name(header.number);
    let mut retried = None;
    loop {
        if expected.is_some_and(|expected| scanner.position() >= expected) {
            if expected != Some(scanner.position()) {
                let what = "its last record goes on where its successor says that they end";
                end.damage = Some(Damage { file: name, offset: end.at.into(), what: what.to_owned() });
            }
            return Ok(());
        }
        let why = match scanner.next()? {
            Step::Record(at, view) => match order.admit(at, &view, header, end.proven) {
                Ok(()) => {
                    end.proven = view.synced;
                    each(&view);
                    end.at = at + view.len() as u32;
                    continue;
                }
                Err(why) => why,
            },
            Step::Invalid(why) => why,
        };
        scanner.seek(end.at);
        if let Some(expected) = expected {
            let what = format!("{why}, and records should go on to byte {expected}");
            end.damage = Some(Damage { file: name, offset: end.at.into(), what });
            return Ok(());
        }
        let found = proof(scanner.file(), header, end.at, order)?;
        if found.record.is_none() {
            end.torn = found.end - end.at;
            return Ok(());
        }
        // Beside a running server, the record may have come meanwhile.
        if retried == Some(end.at) {
            end.damage = Some(Damage { file: name, offset: end.at.into(), what: proven(why) });
            return Ok(());
        }
        retried = Some(end.at);
    }
}

/// A record which says that what stands at `broken` was on the disk when it was written.
fn proof(file: &impl File, header: &Header, broken: u32, order: &Order) -> io::Result<Found> {
    search(file, header.seed(), broken, |offset, view| {
        view.synced > broken && view.synced <= offset && view.batch > order.last_batch && view.id >= order.last_id
    })
}

impl Order {
    /// Whether a valid record may stand where it does; then it is the last.
    pub fn admit(&mut self, at: u32, view: &View<'_>, header: &Header, synced: u32) -> Result<(), &'static str> {
        let is_first = at == DATA_START;
        // What is lost at the beginning was the table.
        if (view.kind == Kind::Table) != is_first && !(is_first && view.kind == Kind::Lost) {
            return Err("a table does not stand at the beginning alone");
        }
        if view.batch < self.last_batch || !(synced..=at).contains(&view.synced) {
            return Err("a record of an older write stands behind a newer one");
        }
        if view.kind == Kind::Message {
            if view.id <= self.last_id || view.id < header.first_id {
                return Err("a message's id is not higher than the one before");
            }
            self.last_id = view.id;
        }
        self.last_batch = view.batch;
        Ok(())
    }
}

pub(super) fn refused(doing: &'static str, file: &str, source: io::Error) -> OpenError {
    OpenError::Io { doing, file: file.to_owned(), source }
}
