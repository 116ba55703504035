//! `/v1/vdisks/{name}/versions`

use super::api_error::ApiError;
use super::drafts::{DraftError, DraftKey};
use super::farm::now;
use super::hooks::HookError;
use super::jobs::Job;
use super::routes::Routes;
use super::state::{AppState, Shared};
use super::{audit, dry_run, params, version_jobs, version_views, views};
use api::{
    BranchVersion, Changed, DiscardDraft, Endpoint, JobView, Least, Method, NewVersion, OrphanView,
    PatchVersion, Pin, PromoteTo, PromoteVersion, RestoreOrphan, RevertVersion, SealVersion, VDiskView,
    VersionView, paths,
};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use farm::rules::version::{self as rules, CreateVersion};
use farm::{Change, FarmView, OrphanId, Refusal, Stamp, Timestamp};
use model::VersionNumber;
use std::sync::Arc;

type Body<T> = Result<Json<T>, JsonRejection>;

/// The endpoints of versions.
pub(super) fn routes(routes: Routes) -> Routes {
    let post =
        |path, action, about| Endpoint::change(Method::Post, path, action, about).least(Least::SiteAdmin);
    let create = post(paths::VERSIONS, "version.create", "Makes a maintenance version");
    let comment =
        Endpoint::change(Method::Patch, paths::VERSION, "version.comment", "Says something about a version");
    let delete = Endpoint::change(Method::Delete, paths::VERSION, "version.delete", "Deletes a version");
    let checkpoint = post(
        paths::VERSION_CHECKPOINT,
        "version.checkpoint",
        "Makes what a draft holds now durable as a content of its own",
    );
    let seal = post(paths::VERSION_SEAL, "version.seal", "Ends a draft: the version never changes again");
    let promote = post(
        paths::VERSION_PROMOTE,
        "version.promote",
        "Lets test or production devices boot a sealed version",
    );
    let revert = post(
        paths::VERSION_REVERT,
        "version.revert",
        "Makes production devices boot this older version again, at once",
    );
    let pin = post(paths::VERSION_PIN, "version.pin", "Makes devices boot this version whatever is promoted");
    let unpin = post(paths::VERSION_UNPIN, "version.unpin", "Takes a pin away");
    let retire = post(paths::VERSION_RETIRE, "version.retire", "Lets go of a version");
    let branch = post(paths::VERSION_BRANCH, "version.branch", "Makes a new vDisk of a version");
    let merge = post(paths::VERSION_MERGE, "version.merge", "Makes a version a base of its own");
    let release = post(
        paths::VERSION_RELEASE,
        "version.release",
        "Takes a draft away from whoever holds it; nothing is given up",
    );
    let discard = post(
        paths::VERSION_DISCARD,
        "version.discard",
        "Gives up what was written to a draft since its last checkpoint; the bytes are kept aside",
    );
    let restore =
        post(paths::ORPHAN_RESTORE, "orphan.restore", "Makes a vDisk of bytes that were kept aside");
    let delete_orphan = Endpoint::change(
        Method::Delete,
        paths::ORPHAN,
        "orphan.delete",
        "Deletes bytes that were kept aside",
    );
    routes
        .on(restore.takes::<RestoreOrphan>().answers::<VDiskView>(201), restore_orphan)
        .on(delete_orphan.least(Least::SiteAdmin), self::delete_orphan)
        .on(Endpoint::get(paths::VERSIONS, "Lists the versions of a vDisk").lists::<VersionView>(), list)
        .on(create.takes::<NewVersion>().answers::<VersionView>(201), self::create)
        .on(Endpoint::get(paths::VERSION, "Shows a version").answers::<VersionView>(200), show)
        .on(
            comment.least(Least::SiteAdmin).takes::<PatchVersion>().answers::<VersionView>(200),
            self::comment,
        )
        .on(delete.least(Least::SiteAdmin), self::delete)
        .on(checkpoint.answers::<JobView>(202), self::checkpoint)
        .on(seal.takes::<SealVersion>().answers::<JobView>(202), self::seal)
        .on(promote.takes::<PromoteVersion>().answers::<Changed>(200), self::promote)
        .on(revert.takes::<RevertVersion>().answers::<Changed>(200), self::revert)
        .on(pin.takes::<Pin>().answers::<Changed>(200), self::pin)
        .on(unpin.takes::<Pin>().answers::<Changed>(200), self::unpin)
        .on(retire.answers::<VersionView>(200), self::retire)
        .on(branch.takes::<BranchVersion>().answers::<VDiskView>(201), self::branch)
        .on(merge.answers::<VersionView>(200), self::merge)
        .on(release.answers::<VersionView>(200), self::release)
        .on(discard.takes::<DiscardDraft>().answers::<VersionView>(200), self::discard)
        .on(
            Endpoint::get(paths::ORPHANS, "Lists the bytes that were kept aside").lists::<OrphanView>(),
            orphans,
        )
}

pub(super) async fn list(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<Vec<VersionView>>, ApiError> {
    let (view, name) = (state.farm.view(), params::name(&name)?);
    let vdisk = rules::find_vdisk(&view, &name)?;
    Ok(Json(version_views::all(&state, &view, vdisk)))
}

pub(super) async fn create(
    State(state): State<Shared>,
    Path(name): Path<String>,
    body: Body<NewVersion>,
) -> Result<(StatusCode, Json<VersionView>), ApiError> {
    let (vdisk, Json(new)) = (params::name(&name)?, body?);
    let from = new.parent.map(VersionNumber);
    let mut number = VersionNumber::FIRST;
    let made = state.farm.decide(|view, now| {
        let command = CreateVersion { vdisk: vdisk.clone(), from, comment: new.comment.clone() };
        number = rules::find_vdisk(view, &vdisk)?.next;
        rules::create(view, command, &by_asker(now))
    });
    made.await?;
    Ok((StatusCode::CREATED, Json(shown(&state, &DraftKey { vdisk, number })?)))
}

pub(super) async fn show(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
) -> Result<Json<VersionView>, ApiError> {
    Ok(Json(shown(&state, &key(path)?)?))
}

pub(super) async fn comment(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
    body: Body<PatchVersion>,
) -> Result<Json<VersionView>, ApiError> {
    let (key, Json(patch)) = (key(path)?, body?);
    let DraftKey { vdisk, number } = &key;
    state
        .farm
        .decide(|view, now| rules::comment(view, vdisk, *number, patch.comment.clone(), &by_asker(now)))
        .await?;
    Ok(Json(shown(&state, &key)?))
}

pub(super) async fn delete(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
) -> Result<StatusCode, ApiError> {
    let key = key(path)?;
    version_jobs::delete(&state, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn checkpoint(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    started(version_jobs::checkpoint(&state, key(path)?)?)
}

pub(super) async fn seal(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
    body: Body<SealVersion>,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    started(version_jobs::seal(&state, key(path)?, body?.0)?)
}

pub(super) async fn merge(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
) -> Result<Json<VersionView>, ApiError> {
    let key = key(path)?;
    let DraftKey { vdisk, number } = &key;
    state.farm.decide(|view, now| rules::merge(view, vdisk, *number, &by_asker(now))).await?;
    Ok(Json(shown(&state, &key)?))
}

fn started(job: Arc<Job>) -> Result<(StatusCode, Json<JobView>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(job.view())))
}

pub(super) async fn promote(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
    body: Body<PromoteVersion>,
) -> Result<Json<Changed>, ApiError> {
    let (key, Json(body)) = (key(path)?, body?);
    let DraftKey { vdisk, number } = key.clone();
    let to = match (body.to, body.gate.as_ref()) {
        (PromoteTo::Production, Some(gate)) => {
            rules::PromoteTo::Production(rules::When::Gate(version_views::gate_of(gate)))
        }
        (PromoteTo::Production, None) => rules::PromoteTo::Production(rules::When::Now(copies(body.force))),
        (PromoteTo::Test, None) => rules::PromoteTo::Test,
        (PromoteTo::Test, Some(_)) => {
            let message = "only a promotion to production can wait";
            return Err(ApiError::bad_request(message, "leave the gate out, or promote to production"));
        }
    };
    let seen = rules::Seen { root: body.root, production: body.production.map(VersionNumber) };
    let command = rules::Promote { vdisk, number, to, seen };
    let rule = |view: &FarmView, now| rules::promote(view, &command, &by_asker(now));
    change(&state, &key, body.dry_run, rule).await
}

pub(super) async fn revert(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
    body: Body<RevertVersion>,
) -> Result<Json<Changed>, ApiError> {
    let (key, Json(body)) = (key(path)?, body?);
    let DraftKey { vdisk, number } = key.clone();
    let (to, seen) = (Some(number), body.production.map(VersionNumber));
    let command = rules::Revert { vdisk, to, seen, copies: copies(body.force) };
    let rule = |view: &FarmView, now| rules::revert(view, &command, &by_asker(now));
    change(&state, &key, body.dry_run, rule).await
}

pub(super) async fn pin(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
    body: Body<Pin>,
) -> Result<Json<Changed>, ApiError> {
    let (key, Json(body)) = (key(path)?, body?);
    let (scope, dry_run) = scope(body)?;
    let command = rules::Pin { scope, vdisk: key.vdisk.clone(), number: key.number };
    let rule = |view: &FarmView, now| rules::pin(view, &command, &by_asker(now));
    change(&state, &key, dry_run, rule).await
}

pub(super) async fn unpin(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
    body: Body<Pin>,
) -> Result<Json<Changed>, ApiError> {
    let (key, Json(body)) = (key(path)?, body?);
    let (scope, dry_run) = scope(body)?;
    let rule = |view: &FarmView, now| rules::unpin(view, &scope, &key.vdisk, &by_asker(now));
    change(&state, &key, dry_run, rule).await
}

pub(super) async fn retire(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
) -> Result<Json<VersionView>, ApiError> {
    let key = key(path)?;
    let DraftKey { vdisk, number } = &key;
    state.farm.decide(|view, now| rules::retire(view, vdisk, *number, &by_asker(now))).await?;
    Ok(Json(shown(&state, &key)?))
}

pub(super) async fn branch(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
    body: Body<BranchVersion>,
) -> Result<(StatusCode, Json<VDiskView>), ApiError> {
    let (DraftKey { vdisk, number }, Json(BranchVersion { name, comment })) = (key(path)?, body?);
    let command = rules::Branch { vdisk, number, name: name.clone(), comment };
    state.farm.decide(|view, now| rules::branch(view, command.clone(), &by_asker(now))).await?;
    let view = state.farm.view();
    Ok((StatusCode::CREATED, Json(views::vdisk(&state, &view, rules::find_vdisk(&view, &name)?))))
}

pub(super) async fn release(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
) -> Result<Json<VersionView>, ApiError> {
    let key = key(path)?;
    state.boot.drafts.release(&key, &audit::asker_text()).await?;
    Ok(Json(shown(&state, &key)?))
}

pub(super) async fn discard(
    State(state): State<Shared>,
    Path(path): Path<(String, u32)>,
    body: Body<DiscardDraft>,
) -> Result<Json<VersionView>, ApiError> {
    let (key, Json(body)) = (key(path)?, body?);
    let command = farm::rules::orphan::Discard {
        vdisk: key.vdisk.clone(),
        number: key.number,
        server: body.server,
        from_epoch: farm::Epoch(body.from_epoch),
        to_epoch: farm::Epoch(body.epoch),
    };
    state.boot.drafts.discard(&key, &command, &audit::asker_text()).await?;
    Ok(Json(shown(&state, &key)?))
}

pub(super) async fn orphans(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<Vec<OrphanView>>, ApiError> {
    let (view, name) = (state.farm.view(), params::name(&name)?);
    rules::find_vdisk(&view, &name)?;
    let of_it = view.orphans.values().filter(|orphan| orphan.vdisk == name);
    Ok(Json(of_it.map(|orphan| version_views::orphan(orphan)).collect()))
}

pub(super) async fn restore_orphan(
    State(state): State<Shared>,
    Path(path): Path<(String, u32, u64)>,
    body: Body<RestoreOrphan>,
) -> Result<(StatusCode, Json<VDiskView>), ApiError> {
    let (id, Json(body)) = (orphan_id(path)?, body?);
    state.boot.drafts.restore_orphan(&id, &body.name, &audit::asker_text()).await?;
    let view = state.farm.view();
    let vdisk = rules::find_vdisk(&view, &body.name)?;
    Ok((StatusCode::CREATED, Json(views::vdisk(&state, &view, vdisk))))
}

pub(super) async fn delete_orphan(
    State(state): State<Shared>,
    Path(path): Path<(String, u32, u64)>,
) -> Result<StatusCode, ApiError> {
    state.boot.drafts.delete_orphan(&orphan_id(path)?, &audit::asker_text()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn orphan_id((name, number, epoch): (String, u32, u64)) -> Result<OrphanId, ApiError> {
    let (vdisk, number) = (params::name(&name)?, VersionNumber(number));
    Ok(OrphanId { vdisk, number, epoch: farm::Epoch(epoch) })
}

/// Carries a change of what devices boot out, or says what it would do.
async fn change(
    state: &AppState,
    key: &DraftKey,
    only_say: bool,
    mut rule: impl FnMut(&FarmView, Timestamp) -> Result<Change, Refusal> + Send,
) -> Result<Json<Changed>, ApiError> {
    if only_say {
        let (view, now) = (state.farm.view(), now());
        let would = dry_run::of(&view, rule(&view, now)?, &state.server, now);
        return Ok(Json(Changed::DryRun(would)));
    }
    state.farm.decide(rule).await?;
    Ok(Json(Changed::Version(Box::new(shown(state, key)?))))
}

/// One complete copy must be there, unless the admin knows better.
fn copies(force: bool) -> rules::CopyRule {
    if force { rules::CopyRule::Override } else { rules::CopyRule::AtLeast(1) }
}

fn scope(pin: Pin) -> Result<(rules::PinScope, bool), ApiError> {
    let scope = match (pin.collection, pin.device) {
        (None, None) => rules::PinScope::VDisk,
        (Some(collection), None) => rules::PinScope::Collection(collection),
        (None, Some(device)) => rules::PinScope::Device(device),
        (Some(_), Some(_)) => {
            let message = "a pin is for a collection or for a device, not for both";
            return Err(ApiError::bad_request(message, "pin it twice"));
        }
    };
    Ok((scope, pin.dry_run))
}

fn shown(state: &AppState, key: &DraftKey) -> Result<VersionView, ApiError> {
    let view = state.farm.view();
    let version = rules::find(&view, &key.vdisk, key.number)?;
    Ok(version_views::version(state, &view, version))
}

fn key((name, number): (String, u32)) -> Result<DraftKey, ApiError> {
    Ok(DraftKey { vdisk: params::name(&name)?, number: VersionNumber(number) })
}

pub(super) fn by_asker(now: Timestamp) -> Stamp {
    Stamp::new(audit::asker_text(), now)
}

impl From<DraftError> for ApiError {
    fn from(error: DraftError) -> Self {
        let status = match error {
            DraftError::Farm(error) => return error.into(),
            DraftError::NoStore(_) | DraftError::Hook(HookError::Unknown { .. }) => StatusCode::NOT_FOUND,
            DraftError::Lost(_) | DraftError::Gone(_) | DraftError::Hook(_) => StatusCode::CONFLICT,
            DraftError::Store { .. } | DraftError::Version(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::from_text(status, &error.to_string())
    }
}
