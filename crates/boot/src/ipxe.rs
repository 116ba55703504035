//! The iPXE scripts: one language for PXE, HTTP boot and boot media (DESIGN section 8).
//!
//! A script is text that a loader executes, so nothing free-form gets into one: URLs, names and
//! addresses are validated types, kernel arguments are checked word by word, messages are reduced
//! to characters that mean nothing to iPXE. Every script ends in a retry or a reboot, never at a
//! prompt: nobody sits in front of most devices.

mod templates;
#[cfg(test)]
mod tests;
mod url;

pub use url::{HttpUrl, InvalidUrl};

use minijinja::{Environment, context};
use model::{MacAddress, Name, VersionNumber};
use std::fmt;
use std::time::Duration;

/// What iPXE calls the initrd; on UEFI the kernel's stub asks for it by this name.
const INITRD_NAME: &str = "headwater.img";

/// Where one server keeps a session's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootSource {
    /// The kernel.
    pub kernel: HttpUrl,
    /// The initrd with the agent.
    pub initrd: HttpUrl,
    /// The boot plan, which the agent fetches.
    pub plan: HttpUrl,
}

/// Everything a device's script says.
#[derive(Clone, Debug)]
pub struct DeviceScript {
    /// The device's name.
    pub device: Name,
    /// The vDisk's name.
    pub vdisk: Name,
    /// The version's number.
    pub version: VersionNumber,
    /// The value for `root=`, from [`image::RootSpec`].
    pub root: image::RootSpec,
    /// Servers in the order to try; not empty.
    pub sources: Vec<BootSource>,
    /// Further kernel arguments: the image's own and the admin's.
    pub args: Vec<KernelArg>,
}

impl DeviceScript {
    /// The script that starts the device's vDisk, from the first server that answers.
    pub fn render(&self) -> String {
        let plans: Vec<String> = self.sources.iter().map(|source| source.plan.to_string()).collect();
        let sources: Vec<_> = self
            .sources
            .iter()
            .map(|source| {
                context! {
                    host => source.kernel.host(),
                    kernel => source.kernel.to_string(),
                    initrd => source.initrd.to_string(),
                }
            })
            .collect();
        let args: Vec<&str> = self.args.iter().map(KernelArg::as_str).collect();
        render(
            templates::DEVICE,
            context! {
                device => self.device.to_string(),
                vdisk => self.vdisk.to_string(),
                version => self.version.to_string(),
                root => self.root.to_string(),
                rdinit => crate::initrd::AGENT_PATH,
                plan_parameter => protocol::plan::PLAN_PARAMETER,
                address_parameter => protocol::plan::ADDRESS_PARAMETER,
                initrd_name => INITRD_NAME,
                plans => plans.join(","),
                sources,
                args => args.join(" "),
            },
        )
    }
}

/// The script for a device that may choose among `vdisks`, which are not empty: shows them, takes
/// the first after `timeout`, and asks `script` again with `&vdisk=` and the choice. `script` must
/// have a query already.
pub fn menu_script(device: &Name, vdisks: &[Name], timeout: Duration, script: &HttpUrl) -> String {
    assert!(!vdisks.is_empty(), "a menu has entries");
    let entries: Vec<String> = vdisks.iter().map(Name::to_string).collect();
    let (device, script) = (device.to_string(), script.to_string());
    render(templates::MENU, context! { device, entries, timeout_s => timeout.as_secs(), script })
}

/// The script for a device that an admin has yet to accept: says so, waits, asks again.
pub fn pending_script(mac: MacAddress, again: &HttpUrl) -> String {
    render(templates::PENDING, context! { mac => mac.to_string(), again => again.to_string() })
}

/// The script for a device that another server can boot: says why, and asks `scripts` in order.
pub fn elsewhere_script(message: &str, scripts: &[HttpUrl]) -> String {
    let lines: Vec<String> = message.lines().take(12).map(plain_text).collect();
    let scripts: Vec<String> = scripts.iter().map(HttpUrl::to_string).collect();
    render(templates::ELSEWHERE, context! { lines, scripts })
}

/// The script for a device that cannot boot: says why, waits, reboots.
///
/// `message` may have several lines; whatever iPXE could take for more than text is replaced.
pub fn error_script(message: &str) -> String {
    let lines: Vec<String> = message.lines().take(12).map(plain_text).collect();
    render(templates::ERROR, context! { lines })
}

/// The script for boot media and other loaders: gets an address, then runs the device's script
/// from the first of `scripts` that answers. Each URL is used with `?mac=` and the loader's MAC.
pub fn chain_script(scripts: &[HttpUrl]) -> String {
    let scripts: Vec<String> = scripts.iter().map(HttpUrl::to_string).collect();
    render(templates::CHAIN, context! { scripts })
}

/// One word of the kernel's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelArg(String);

/// Why a text cannot be a kernel argument in a script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be a kernel argument: it must be one word of at most 512 letters, digits and ._,:;=+-/@%[]"
)]
pub struct InvalidKernelArg(String);

impl KernelArg {
    /// Checks a word: no spaces, quotes, or anything that iPXE or a shell would expand.
    pub fn new(text: &str) -> Result<Self, InvalidKernelArg> {
        let is_safe = |c: char| c.is_ascii_alphanumeric() || "._,:;=+-/@%[]".contains(c);
        if text.is_empty() || text.len() > 512 || !text.chars().all(is_safe) {
            return Err(InvalidKernelArg(text.chars().take(80).collect()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KernelArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that `echo` prints as it stands: iPXE expands `${}`, splits at `||` and `&&`, and reads
/// the backslash and quotes in some versions.
fn plain_text(line: &str) -> String {
    let plain = line.chars().take(200).map(|c| match c {
        '"' | '`' => '\'',
        c if c.is_ascii_alphanumeric() || " .,:;_()[]<>/'+=?!%@-".contains(c) => c,
        _ => '?',
    });
    plain.collect()
}

fn render(template: &str, values: minijinja::Value) -> String {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    let syntax = minijinja::syntax::SyntaxConfig::builder()
        .trim_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .expect("the default delimiters do not clash");
    environment.set_syntax(syntax);
    // Templates are constants of this crate and every one is rendered by a test.
    environment.render_str(template, values).expect("a built-in template renders")
}
