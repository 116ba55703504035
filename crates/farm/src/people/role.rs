//! What somebody may do.

use model::Name;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How much somebody may do, least first: each level may do all that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Looks at everything but people and the audit.
    ReadOnly,
    /// Adds, changes and removes devices, accepts unknown ones, ends their sessions.
    DeviceOperator,
    /// Manages vDisks, versions, collections and stores.
    SiteAdmin,
    /// Everything.
    FarmAdmin,
}

/// A level that a user has; a site admin's is bound to a site.
///
/// Written `read-only`, `device-operator`, `site-admin:SITE`, `farm-admin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// [`Level::ReadOnly`].
    ReadOnly,
    /// [`Level::DeviceOperator`].
    DeviceOperator,
    /// [`Level::SiteAdmin`] of a site.
    SiteAdmin(Name),
    /// [`Level::FarmAdmin`].
    FarmAdmin,
}

impl Level {
    /// Every level, least first.
    pub const ALL: [Self; 4] = [Self::ReadOnly, Self::DeviceOperator, Self::SiteAdmin, Self::FarmAdmin];

    /// The stable text of the level.
    pub fn id(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::DeviceOperator => "device-operator",
            Self::SiteAdmin => "site-admin",
            Self::FarmAdmin => "farm-admin",
        }
    }

    /// The level for people: `a device operator`.
    pub fn about(self) -> &'static str {
        match self {
            Self::ReadOnly => "a read-only user",
            Self::DeviceOperator => "a device operator",
            Self::SiteAdmin => "a site admin",
            Self::FarmAdmin => "a farm admin",
        }
    }
}

impl Role {
    /// The role's level.
    pub fn level(&self) -> Level {
        match self {
            Self::ReadOnly => Level::ReadOnly,
            Self::DeviceOperator => Level::DeviceOperator,
            Self::SiteAdmin(_) => Level::SiteAdmin,
            Self::FarmAdmin => Level::FarmAdmin,
        }
    }

    /// Whether this role may do all that `other` may.
    pub fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SiteAdmin(own), Self::SiteAdmin(others)) => own == others,
            _ => self.level() >= other.level(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SiteAdmin(site) => write!(f, "{}:{site}", Level::SiteAdmin.id()),
            other => f.write_str(other.level().id()),
        }
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let unknown =
            || format!("{text:?} is no role: one of read-only, device-operator, site-admin:SITE, farm-admin");
        match text.split_once(':') {
            Some(("site-admin", site)) => Ok(Self::SiteAdmin(Name::new(site).map_err(|_| unknown())?)),
            Some(_) => Err(unknown()),
            None => match text {
                "read-only" => Ok(Self::ReadOnly),
                "device-operator" => Ok(Self::DeviceOperator),
                "farm-admin" => Ok(Self::FarmAdmin),
                _ => Err(unknown()),
            },
        }
    }
}

impl TryFrom<String> for Role {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_were_written() {
        for text in ["read-only", "device-operator", "site-admin:east", "farm-admin"] {
            assert_eq!(text.parse::<Role>().unwrap().to_string(), text);
        }
        for text in ["", "admin", "site-admin", "site-admin:", "farm-admin:east", "Farm-Admin"] {
            assert!(text.parse::<Role>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_role_includes_those_below_it_and_no_other_site() {
        let role = |text: &str| text.parse::<Role>().unwrap();
        assert!(role("farm-admin").includes(&role("site-admin:east")));
        assert!(role("site-admin:east").includes(&role("site-admin:east")));
        assert!(!role("site-admin:east").includes(&role("site-admin:west")));
        assert!(role("site-admin:east").includes(&role("device-operator")));
        assert!(!role("read-only").includes(&role("device-operator")));
    }
}
