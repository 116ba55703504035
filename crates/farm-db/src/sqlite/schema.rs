//! The tables, and whether a file is ours.
//!
//! Format revision 1, told by `PRAGMA application_id` = 0x48574642 ("HWFB") and
//! `PRAGMA user_version` = 1 (`docs/formats.md`, "Farm database"):
//!
//! - `farm`: one row; `revision` of the database, `compacted` = the highest revision whose history
//!   is gone;
//! - `record`: the present state, one row a key;
//! - `history`: every change of the revisions above `compacted`; a NULL value is a deletion;
//! - `announced`: the keys of records that stand for somebody alive in the process that has the
//!   database open; they are removed when it is opened again.

use super::checkpoint::LAST_RESORT_PAGES;
use crate::db::DbError;
use rusqlite::Connection;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// "HWFB": tells our file from any other SQLite file.
const APPLICATION_ID: i64 = 0x4857_4642;
/// The format of the tables.
const FORMAT_REVISION: i64 = 1;

/// How long the log is made: as long as it may become before a commit waits for its copying
/// (`checkpoint::LONG_PAGES`). Where commits come without a pause it begins anew at 4 to 9 MiB.
const GROWN_BYTES: u64 = 16 << 20;

/// Made where it is missing: files of the first programs do not have it.
const ANNOUNCED: &str = "
    CREATE TABLE IF NOT EXISTS announced (
        key TEXT PRIMARY KEY
    ) STRICT, WITHOUT ROWID;
";

const TABLES: &str = "
    CREATE TABLE farm (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        revision INTEGER NOT NULL,
        compacted INTEGER NOT NULL
    ) STRICT;
    INSERT INTO farm VALUES (1, 0, 0);
    CREATE TABLE record (
        key TEXT PRIMARY KEY,
        value BLOB NOT NULL,
        create_revision INTEGER NOT NULL,
        mod_revision INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE history (
        revision INTEGER NOT NULL,
        step INTEGER NOT NULL,
        key TEXT NOT NULL,
        value BLOB,
        create_revision INTEGER NOT NULL,
        PRIMARY KEY (revision, step)
    ) STRICT, WITHOUT ROWID;
";

/// Opens the file, makes the tables where it is new, and refuses it where it is not ours.
pub(super) fn open(path: &Path) -> Result<Connection, DbError> {
    let shown = path.display();
    let damaged = |e: rusqlite::Error| {
        DbError::Unusable(format!(
            "the farm database {shown} cannot be read: {e}\n\
             hint: stop the server, move the file and its -wal and -shm aside, put a backup in their place"
        ))
    };
    let mut db = Connection::open(path).map_err(damaged)?;
    let text = |db: &Connection, sql: &str| db.query_row(sql, [], |row| row.get::<_, String>(0));
    let number = |db: &Connection, sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = number(&db, "PRAGMA application_id").map_err(damaged)?;
    let tables = number(&db, "SELECT count(*) FROM sqlite_schema").map_err(damaged)?;
    let format = number(&db, "PRAGMA user_version").map_err(damaged)?;
    match (application, tables, format) {
        (0, 0, 0) => (),
        (APPLICATION_ID, _, FORMAT_REVISION) => (),
        (APPLICATION_ID, _, other) => {
            return Err(DbError::Unusable(format!(
                "the farm database {shown} has format revision {other}; this program knows {FORMAT_REVISION}\n\
                 hint: run the headwater that wrote it, or a newer one"
            )));
        }
        _ => {
            return Err(DbError::Unusable(format!(
                "{shown} is another program's database\n\
                 hint: give headwater a state_dir of its own"
            )));
        }
    }
    let check = text(&db, "PRAGMA quick_check(1)").map_err(damaged)?;
    if check != "ok" {
        return Err(DbError::Unusable(format!(
            "the farm database {shown} is damaged: {check}\n\
             hint: stop the server, move the file and its -wal and -shm aside, put a backup in their place"
        )));
    }
    db.pragma_update(None, "journal_mode", "WAL").map_err(damaged)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(damaged)?;
    db.pragma_update(None, "wal_autocheckpoint", LAST_RESORT_PAGES).map_err(damaged)?;
    if tables == 0 {
        create(&mut db).map_err(damaged)?;
    }
    db.execute_batch(ANNOUNCED).map_err(damaged)?;
    // Only makes commits faster: a disk without the room is told by the first commit that lacks it.
    if let Err(error) = grow_log(path) {
        tracing::warn!(%error, database = %shown, "the log of the farm database grows as it is written");
    }
    Ok(db)
}

/// Writes zeros behind the log's end, while nobody else has the file open.
///
/// A commit that makes the log longer changes the file's metadata, and syncing those waits for what
/// other programs wrote to the file system: beside compilers 29 ms in the slowest hundredth of
/// commits, into a log that was long before 8.5 ms. To SQLite what does not carry the log's salts is
/// not there (<https://www.sqlite.org/fileformat2.html>, section 4.1), zeros least of all.
fn grow_log(database: &Path) -> std::io::Result<()> {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    let log = std::fs::OpenOptions::new().write(true).open(name)?;
    let end = log.metadata()?.len();
    if end < GROWN_BYTES {
        log.write_all_at(&vec![0; (GROWN_BYTES - end) as usize], end)?;
        log.sync_all()?;
    }
    Ok(())
}

fn create(db: &mut Connection) -> rusqlite::Result<()> {
    let txn = db.transaction()?;
    txn.execute_batch(TABLES)?;
    txn.pragma_update(None, "application_id", APPLICATION_ID)?;
    txn.pragma_update(None, "user_version", FORMAT_REVISION)?;
    txn.commit()
}
