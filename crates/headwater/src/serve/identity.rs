//! Who a device is: host name, machine-id and SSH host key, derived from the farm's secret and the
//! device's name. Nothing is stored for a device, every server of the farm derives the same, and
//! whoever lacks the secret learns nothing from one device about another (BLAKE3's derive_key mode
//! is a key derivation function; its contexts are never used for anything else).
//!
//! An identity leaves this server only in the boot plan, which is fetched with the session's token.

use super::farm::{FarmError, FarmHandle};
use farm::FarmView;
use farm::rules::identity::make_secret;
use model::Name;
use protocol::plan::Identity;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};

const MACHINE_ID_CONTEXT: &str = "headwater 2026-11 device identity: machine-id";
const SSH_CONTEXT: &str = "headwater 2026-11 device identity: SSH host key, Ed25519 seed";

/// Makes the farm's secret where there is none yet.
pub(crate) async fn make_farm_secret(farm: &FarmHandle) -> Result<(), FarmError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("the system's randomness is available");
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    farm.decide(|view, now| Ok(make_secret(view, &random, now))).await
}

/// The identity of a device; none where its collection has them switched off.
pub(crate) fn identity_of(view: &FarmView, device: &Name) -> Option<Identity> {
    let collection = &view.devices.get(device)?.collection;
    let is_on = view.collections.get(collection).is_some_and(|collection| collection.identity);
    is_on.then(|| derive(&view.identity_secret.as_ref()?.secret, device)).flatten()
}

fn derive(secret: &str, device: &Name) -> Option<Identity> {
    let seed = derive_bytes(SSH_CONTEXT, secret, device);
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    let key = PrivateKey::new(pair, device.as_str()).ok()?;
    let private = key.to_openssh(LineEnding::LF).ok()?;
    let public = key.public_key().to_openssh().ok()?;
    Some(Identity {
        hostname: device.clone(),
        machine_id: machine_id(derive_bytes(MACHINE_ID_CONTEXT, secret, device)),
        ssh_private_key: private.to_string(),
        ssh_public_key: format!("{public}\n"),
    })
}

fn derive_bytes(context: &str, secret: &str, device: &Name) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(secret.as_bytes());
    hasher.update(b"/"); // in no secret, which is hexadecimal
    hasher.update(device.as_str().as_bytes());
    hasher.finalize().into()
}

/// The first 128 bits with the marks of a version 4 UUID, as machine-id(5) recommends.
fn machine_id(bytes: [u8; 32]) -> String {
    let mut id: [u8; 16] = bytes[..16].try_into().expect("half of 32 bytes");
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn of(secret: &str, device: &str) -> Identity {
        derive(secret, &Name::new(device).unwrap()).unwrap()
    }

    #[test]
    fn an_identity_is_the_same_each_time_and_another_for_each_device_and_farm() {
        let one = of("5e", "m-01");
        assert_eq!(one, of("5e", "m-01"));
        for other in [of("5e", "m-02"), of("5f", "m-01")] {
            assert_ne!(one.machine_id, other.machine_id);
            assert_ne!(one.ssh_private_key, other.ssh_private_key);
            assert_ne!(one.ssh_public_key, other.ssh_public_key);
        }
    }

    #[test]
    fn a_machine_id_is_a_random_uuid_without_dashes() {
        let id = of("5e", "m-01").machine_id;
        assert_eq!(id.len(), 32);
        assert!(id.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()));
        assert_eq!(&id[12..13], "4");
        assert!("89ab".contains(&id[16..17]));
    }

    /// Derived identities must never change: devices' host keys are known to people's clients.
    #[test]
    fn identities_stay_what_they_were() {
        let one = of("5e", "m-01");
        assert_eq!(one.machine_id, "9d7202fa51c04ea9afc6464f5cb25fff");
        assert_eq!(
            one.ssh_public_key,
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDtBvguL4N4oXSJ4ZmmmPVXznHvVrI7zaPO9uWlBcMKD m-01\n"
        );
    }

    #[test]
    fn openssh_reads_the_key_and_finds_the_public_half() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let one = of("5e", "m-01");
        std::fs::write(&path, &one.ssh_private_key).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let output = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output();
        let output = output.expect("ssh-keygen runs\nhint: apt-get install openssh-client");
        let said = String::from_utf8(output.stdout).unwrap();
        let words = |text: &str| text.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&said), words(&one.ssh_public_key), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
