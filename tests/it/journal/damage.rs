//! A bit flips in what was on the disk: nothing that was acknowledged is left out in silence.

use std::sync::Arc;

use tidegate::journal::{Log, OpenError, repair, verify};

use super::disk::{End, draw_survival};
use super::faults::Weather;
use super::life::{Life, Mark, Op};

/// A life in fair weather, and after its end a bit is not what it was. What came of it.
pub fn live(life: &mut Life) {
    life.calm();
    for _ in 0..life.dice.between(5, 60) {
        let op = match life.draw_op() {
            Op::Room | Op::Weather => Op::Commit,
            op => op,
        };
        life.run(op);
    }
    life.disk.state().weather = Weather::default();
    let end = draw_end(life);
    if life.dice.chance(30) {
        life.shut();
    }
    life.stop(end);
    let Some((file, at)) = choose(life) else { return };
    let bit = 1 << life.dice.below(8);
    life.disk.damage(&file, at, bit);
    match Log::open(Arc::new(life.disk.clone()), life.options.clone(), life.now) {
        Ok((log, _)) => {
            life.log = Some(log);
            let found = life.found();
            let missing = life.model.missing(&found);
            let may_be_cut = |id: &u64| life.mark == Mark::None && life.last_batch.contains(id);
            let overdue = |id: &u64| life.model.may_be_deleted(*id, life.now);
            let lost: Vec<&u64> = missing.iter().filter(|id| !may_be_cut(id) && !overdue(id)).collect();
            assert!(lost.is_empty(), "{file} was damaged at {at}, and these were left out: {lost:?}");
            life.model.holds_all(&found);
            life.disk.state().counts.add(if missing.is_empty() { "damage without harm" } else { "damage cut as torn" });
        }
        Err(OpenError::Damaged(damage)) => {
            assert_eq!(damage.file, file, "{at}: {damage}");
            assert!(damage.offset <= at as u64, "{at}: {damage}");
            life.disk.state().counts.add("damage found");
            after_damage(life, (&file, at, bit));
        }
        Err(error) => panic!("{file} is damaged at {at}, and the error is: {error}"),
    }
}

/// A start has refused: so does the next, nothing has changed, and the operator has a choice.
fn after_damage(life: &mut Life, (file, at, bit): (&str, usize, u8)) {
    let storage = Arc::new(life.disk.clone());
    let again = Log::open(Arc::clone(&storage), life.options.clone(), life.now);
    assert!(matches!(again, Err(OpenError::Damaged(_))), "the second start goes on: {again:?}");
    drop(again);
    let report = verify(&*storage).expect("nothing is wrong with the disk");
    assert!(report.losses.iter().any(|loss| loss.damage.file == file), "{file} {at}: {report:?}");
    if life.dice.chance(50) {
        life.disk.damage(file, at, bit);
        life.open();
        life.disk.state().counts.add("damage taken back");
        return;
    }
    drop(storage);
    mend(life);
    let opened = Log::open(Arc::new(life.disk.clone()), life.options.clone(), life.now);
    let (log, _) = opened.unwrap_or_else(|error| panic!("it was repaired: {error}; {report:?}"));
    life.log = Some(log);
    let found = life.found();
    life.model.holds_all(&found);
    for id in life.model.missing(&found) {
        let told = report.losses.iter().any(|loss| loss.ids.is_some_and(|(first, last)| (first..=last).contains(&id)));
        let due = life.model.may_be_deleted(id, life.now) || life.last_batch.contains(&id);
        assert!(told || due, "{id} is lost and was not told: {report:?}");
    }
    life.disk.state().counts.add("damage repaired");
}

/// Repairs it, however often the machine stops or the disk fails meanwhile.
fn mend(life: &mut Life) {
    if life.dice.chance(60) {
        life.disk.state().weather =
            Weather { stop: 400, write: 100, read: 100, sync: 100, names: 100, ..Weather::default() };
    }
    for attempt in 0.. {
        let faults = life.disk.state().faults;
        let repaired = repair(&life.disk);
        if attempt == 8 {
            life.calm();
        }
        match repaired {
            Ok(_) if !life.disk.stopped() => break,
            Ok(_) => {}
            Err(error) => assert!(life.disk.state().faults > faults, "nothing is wrong with the disk: {error}"),
        }
        life.disk.state().counts.add("repair begun again");
        if life.disk.stopped() || life.dice.chance(50) {
            let end = draw_end(life);
            life.disk = life.disk.restart(end);
        }
    }
    life.calm();
    if life.dice.chance(50) {
        let end = draw_end(life);
        life.disk = life.disk.restart(end);
    }
}

fn draw_end(life: &mut Life) -> End {
    if life.dice.chance(30) { End::Killed } else { End::PowerCut(draw_survival(&mut life.dice)) }
}

/// A byte of a file, mostly where there is something.
fn choose(life: &mut Life) -> Option<(String, usize)> {
    let files = life.disk.files();
    let (file, len) = files.get(life.dice.below(files.len()))?.clone();
    let bytes = life.disk.bytes(&file);
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if len == 0 {
        return None;
    }
    let most = (used + 60).min(len);
    // The last records, where a torn end and damage look alike, more often than others.
    let at = if life.dice.chance(50) { most - 1 - life.dice.below(most.min(1_200)) } else { life.dice.below(most) };
    Some((file, at))
}
