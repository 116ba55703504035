//! casync: content-defined chunks from a store that an HTTP server shows, with the old image as
//! seed.
//!
//! The store has the image before the update already. A run is: the new image's index and chunks
//! are made on host 0, and the new image from them on host 1, as a file of its own.

use super::files::Files;
use super::{Counters, Run};
use crate::child;
use crate::lan;
use anyhow::Result;
use std::fs;

impl Files<'_> {
    /// One run; the store is made anew.
    pub fn casync(&self) -> Result<Run> {
        let folder = self.pair.after.canonicalize()?;
        let folder = folder.parent().expect("an image lies in a directory");
        let (store, out) = (folder.join("store.castr"), self.directory.join("casync.raw"));
        let make = |image: &std::path::Path, index: &str| {
            let mut command = self.lan.command(0, "casync");
            command
                .args(["make", &format!("--store={}", store.display())])
                .arg(folder.join(index))
                .arg(image);
            child::run(&mut command)
        };
        make(&self.pair.before, "before.caibx")?;
        self.reset()?;
        let counters = Counters::begin(self.lan, 2)?;
        let made = make(&self.pair.after, "after.caibx")?;
        let url = format!("http://{}", lan::address(0));
        let script = "casync extract --store=\"$1/store.castr\" --seed=\"$2\" \"$1/after.caibx\" \"$3\" && sync \"$3\"";
        let mut command = self.lan.command(1, "sh");
        command.args(["-c", script, "sh", &url]).args([&self.copy, &out]);
        let extracted = child::run(&mut command)?;
        let (wire, upload) = counters.end(self.lan)?;
        self.pair.check(&self.pair.after, &out)?;
        fs::remove_file(out)?;
        fs::remove_dir_all(store)?;
        let wall = made.wall + extracted.wall;
        Ok(Run { wall, readable: wall, cpu: made.cpu + extracted.cpu, wire, upload })
    }
}
