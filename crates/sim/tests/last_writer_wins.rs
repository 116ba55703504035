//! The original trap happens with plain files; `sim.rs` shows that it does not with ours.

extern crate headwater_sim as sim;

use sim::last_writer_wins::play;

#[test]
fn the_newer_file_wins_and_a_day_of_work_is_nowhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let story = play(directory.path()).expect("files can be written there");
    assert_eq!(story.copies_of_the_work(), 0, "{:#?}", story.steps);
    assert!(story.files.iter().all(|file| file == b"header: production\n"));
}
