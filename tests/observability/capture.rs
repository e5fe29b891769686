//! Catches events and spans.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Id, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

/// One event of ours.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) level: Level,
    /// The names of all its fields, whether or not they had a value.
    pub(crate) names: BTreeSet<String>,
    pub(crate) values: BTreeMap<String, String>,
    /// The spans that it is in, the innermost first.
    pub(crate) spans: Vec<&'static str>,
}

impl Told {
    pub(crate) fn message(&self) -> &str {
        &self.values["message"]
    }

    pub(crate) fn layer(&self) -> &str {
        &self.values["layer"]
    }
}

/// One span of ours, with what was recorded of it.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) id: Id,
    pub(crate) level: Level,
    pub(crate) name: &'static str,
    pub(crate) names: BTreeSet<String>,
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) parent: Option<&'static str>,
    pub(crate) is_closed: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Capture {
    events: Arc<Mutex<Vec<Told>>>,
    spans: Arc<Mutex<Vec<Opened>>>,
}

impl Capture {
    pub(crate) fn events(&self) -> Vec<Told> {
        self.events.lock().expect("not poisoned").clone()
    }

    pub(crate) fn spans(&self) -> Vec<Opened> {
        self.spans.lock().expect("not poisoned").clone()
    }

    /// Everything, as a log would show it.
    pub(crate) fn text(&self) -> String {
        format!("{:?}{:?}", self.events(), self.spans())
    }

    fn change(&self, id: &Id, change: impl FnOnce(&mut Opened)) {
        let mut spans = self.spans.lock().expect("not poisoned");
        // Numbers are used again: the latest it is.
        if let Some(span) = spans.iter_mut().rev().find(|span| span.id == *id) {
            change(span);
        }
    }
}

#[derive(Default)]
struct Values(BTreeMap<String, String>);

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = self.0.entry(field.name().to_owned()).or_default();
        text.clear();
        write!(text, "{value:?}").expect("a string takes all");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("tower_relay")
}

fn names(metadata: &Metadata<'_>) -> BTreeSet<String> {
    let fields = metadata.fields().iter();
    fields.map(|field| field.name().to_owned()).collect()
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !is_ours(event.metadata()) {
            return;
        }
        let mut values = Values::default();
        event.record(&mut values);
        let scope = context.event_scope(event).into_iter().flatten();
        let told = Told {
            level: *event.metadata().level(),
            names: names(event.metadata()),
            values: values.0,
            spans: scope.map(|span| span.name()).collect(),
        };
        self.events.lock().expect("not poisoned").push(told);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !is_ours(attributes.metadata()) {
            return;
        }
        let mut values = Values::default();
        attributes.record(&mut values);
        let span = context.span(id).expect("it is new");
        let opened = Opened {
            id: id.clone(),
            level: *attributes.metadata().level(),
            name: attributes.metadata().name(),
            names: names(attributes.metadata()),
            values: values.0,
            parent: span.parent().map(|parent| parent.name()),
            is_closed: false,
        };
        self.spans.lock().expect("not poisoned").push(opened);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, _: Context<'_, S>) {
        let mut values = Values::default();
        record.record(&mut values);
        self.change(id, |span| span.values.extend(values.0));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.change(&id, |span| span.is_closed = true);
    }
}
