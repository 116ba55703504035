//! How the nouns look in the description of the REST API: texts with a pattern, numbers with a range.

use crate::{AccessMode, MacAddress, Name, Root, VersionNumber};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

fn text(about: &str, pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(about)).pattern(Some(pattern))
}

fn schema(object: impl Into<Object>) -> RefOr<Schema> {
    RefOr::T(Schema::Object(object.into()))
}

impl ToSchema for Name {}
impl PartialSchema for Name {
    fn schema() -> RefOr<Schema> {
        let about =
            "A name that people give: 1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit.";
        schema(text(about, "^[a-z0-9][a-z0-9._-]{0,62}$"))
    }
}

impl ToSchema for Root {}
impl PartialSchema for Root {
    fn schema() -> RefOr<Schema> {
        schema(text("The hash that names a version's content.", "^[0-9a-f]{64}$"))
    }
}

impl ToSchema for MacAddress {}
impl PartialSchema for MacAddress {
    fn schema() -> RefOr<Schema> {
        let about =
            "An Ethernet address; read with colons, dashes, Cisco dots or nothing between the digits.";
        schema(text(about, "^[0-9a-fA-F]{2}([:.-]?[0-9a-fA-F]{2}){5}$"))
    }
}

impl ToSchema for VersionNumber {}
impl PartialSchema for VersionNumber {
    fn schema() -> RefOr<Schema> {
        let about = "The number of a version within its vDisk, from 1; never reused.";
        schema(ObjectBuilder::new().schema_type(Type::Integer).description(Some(about)).minimum(Some(1)))
    }
}

impl ToSchema for AccessMode {}
impl PartialSchema for AccessMode {
    fn schema() -> RefOr<Schema> {
        let modes = [Self::Maintenance, Self::Test, Self::Pending, Self::Production, Self::Retired];
        let object = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Which devices a version is for."));
        schema(object.enum_values(Some(modes.map(|mode| mode.to_string()))))
    }
}
