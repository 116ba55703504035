//! What one operation of the REST API is: where it is, what it takes, what it answers, what its
//! changes are called in the audit.
//!
//! The server builds its router out of these, so a route without a description cannot exist, and a
//! method that changes something cannot be declared without the name of its action. Read next:
//! [`crate::openapi`], which turns them into the published description.

use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};

/// An HTTP method of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes something, or does something.
    Post,
    /// Puts bytes.
    Put,
    /// Changes fields.
    Patch,
    /// Takes away.
    Delete,
}

/// Who may use an operation: the least that somebody must be.
///
/// Each level may do all that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Least {
    /// Whoever reaches the server, without a token.
    Anyone,
    /// Somebody who may look.
    ReadOnly,
    /// Somebody who manages devices.
    DeviceOperator,
    /// Somebody who manages vDisks, versions, collections and stores of a site.
    SiteAdmin,
    /// Somebody who may do everything.
    FarmAdmin,
}

impl Least {
    /// The stable text.
    pub fn id(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::ReadOnly => "read-only",
            Self::DeviceOperator => "device-operator",
            Self::SiteAdmin => "site-admin",
            Self::FarmAdmin => "farm-admin",
        }
    }
}

/// One operation. Built with the constructors and `with`-less setters below, all of them `const`.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path, one of [`crate::paths`].
    pub path: &'static str,
    /// What a change is called in the audit, such as `version.promote`; none = it only reads.
    pub action: Option<&'static str>,
    /// The least that somebody must be; none = not declared, which a test refuses and the server
    /// takes for farm admin.
    pub least: Option<Least>,
    /// One sentence for people.
    pub about: &'static str,
    /// The query's fields, as an object.
    pub query: Option<Shape>,
    /// What the request's body is.
    pub body: Option<Body>,
    /// What a successful answer is.
    pub answer: Answer,
}

/// A request's body.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// JSON.
    Json(Shape),
    /// Bytes, described in one sentence.
    Bytes(&'static str),
}

/// A successful answer.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// A status without a body.
    Empty(u16),
    /// One thing as JSON.
    Json(u16, Shape),
    /// A list of things as JSON, with status 200.
    List(Shape),
    /// A stream of server-sent events whose data is one such thing each.
    Events(Shape),
    /// Bytes of a media type.
    Bytes(&'static str),
}

/// The schema of a type, not yet made.
#[derive(Clone, Copy)]
pub struct Shape {
    name: fn() -> std::borrow::Cow<'static, str>,
    schema: fn() -> RefOr<Schema>,
    below: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&(self.name)())
    }
}

impl Shape {
    /// The schema of `T`.
    pub const fn of<T: ToSchema>() -> Self {
        Self { name: T::name, schema: T::schema, below: T::schemas }
    }

    /// The schema itself.
    pub fn inline(&self) -> RefOr<Schema> {
        (self.schema)()
    }

    /// A reference to it among the components.
    pub fn reference(&self) -> RefOr<Schema> {
        RefOr::Ref(Ref::from_schema_name((self.name)()))
    }

    /// A list of references to it.
    pub fn list(&self) -> RefOr<Schema> {
        RefOr::T(Schema::Array(ArrayBuilder::new().items(self.reference()).build()))
    }

    /// It and everything that it refers to, by name.
    pub fn components(&self) -> Vec<(String, RefOr<Schema>)> {
        let mut all = vec![((self.name)().into_owned(), self.inline())];
        (self.below)(&mut all);
        all
    }
}

impl Endpoint {
    /// An operation that reads; whoever may look may use it, unless [`Self::least`] says otherwise.
    pub const fn get(path: &'static str, about: &'static str) -> Self {
        Self::new(Method::Get, path, None, about).least(Least::ReadOnly)
    }

    /// An operation that changes something; `action` is its stable name in the audit. It must say
    /// who may use it with [`Self::least`].
    ///
    /// # Panics
    /// Where the method is GET: a change is never one.
    pub const fn change(
        method: Method,
        path: &'static str,
        action: &'static str,
        about: &'static str,
    ) -> Self {
        assert!(!matches!(method, Method::Get), "GET changes nothing");
        Self::new(method, path, Some(action), about)
    }

    const fn new(
        method: Method,
        path: &'static str,
        action: Option<&'static str>,
        about: &'static str,
    ) -> Self {
        let (query, body, answer) = (None, None, Answer::Empty(204));
        Self { method, path, action, least: None, about, query, body, answer }
    }

    /// Somebody must be this at least.
    #[must_use]
    pub const fn least(self, least: Least) -> Self {
        Self { least: Some(least), ..self }
    }

    /// The query has the fields of `T`.
    #[must_use]
    pub const fn asks<T: ToSchema>(self) -> Self {
        Self { query: Some(Shape::of::<T>()), ..self }
    }

    /// The body is a `T` as JSON.
    #[must_use]
    pub const fn takes<T: ToSchema>(self) -> Self {
        Self { body: Some(Body::Json(Shape::of::<T>())), ..self }
    }

    /// The body is bytes.
    #[must_use]
    pub const fn takes_bytes(self, about: &'static str) -> Self {
        Self { body: Some(Body::Bytes(about)), ..self }
    }

    /// Answers a `T` with a status.
    #[must_use]
    pub const fn answers<T: ToSchema>(self, status: u16) -> Self {
        Self { answer: Answer::Json(status, Shape::of::<T>()), ..self }
    }

    /// Answers a list of `T`.
    #[must_use]
    pub const fn lists<T: ToSchema>(self) -> Self {
        Self { answer: Answer::List(Shape::of::<T>()), ..self }
    }

    /// Answers a stream of server-sent events with a `T` each.
    #[must_use]
    pub const fn streams<T: ToSchema>(self) -> Self {
        Self { answer: Answer::Events(Shape::of::<T>()), ..self }
    }

    /// Answers bytes of a media type.
    #[must_use]
    pub const fn answers_bytes(self, media_type: &'static str) -> Self {
        Self { answer: Answer::Bytes(media_type), ..self }
    }

    /// Answers nothing but a status; 204 unless told.
    #[must_use]
    pub const fn answers_nothing(self, status: u16) -> Self {
        Self { answer: Answer::Empty(status), ..self }
    }
}
