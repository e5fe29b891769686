//! The settings.

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pressure {
    /// This share of all quotas, arriving by chance.
    Share(f64),
    /// As much as 200 workers can.
    Saturated,
}

/// What happens halfway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Nothing,
    /// A scope is refused for a minute.
    Rest,
    /// A key is taken out of use.
    KeyRemoved,
    ScopeAdded,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) scopes: usize,
    /// Of each scope.
    pub(super) keys: usize,
    pub(super) pressure: Pressure,
    pub(super) event: Event,
}

impl Row {
    /// Whether the largest session, of a twentieth of all calls, is no more than a key may have.
    pub(super) fn has_room_for_the_largest(&self) -> bool {
        self.scopes * self.keys <= 25
    }

    /// The same row without the removal.
    pub(super) fn twin(&self) -> Option<Self> {
        let is_removal = self.event == Event::KeyRemoved;
        is_removal.then_some(Self {
            event: Event::Nothing,
            ..*self
        })
    }

    pub(super) fn name(&self) -> String {
        let Self { scopes, keys, .. } = self;
        let pressure = match self.pressure {
            Pressure::Share(share) => format!("{:.0} %", share * 100.0),
            Pressure::Saturated => "200 workers".into(),
        };
        let event = match self.event {
            Event::Nothing => "",
            Event::Rest => ", a scope rests for a minute",
            Event::KeyRemoved => ", a key removed",
            Event::ScopeAdded => ", a scope added",
        };
        let keys = if *keys == 1 { "a key" } else { "3 keys" };
        format!("{scopes} scopes of {keys}, {pressure}{event}")
    }
}

pub(super) fn all() -> Vec<Row> {
    let pools = [(5, 1), (20, 1), (5, 3), (20, 3)];
    let pressures = [Pressure::Share(0.7), Pressure::Saturated];
    let events = [
        Event::Nothing,
        Event::Rest,
        Event::KeyRemoved,
        Event::ScopeAdded,
    ];
    let mut rows = Vec::new();
    for (scopes, keys) in pools {
        for pressure in pressures {
            rows.extend(events.map(|event| Row {
                scopes,
                keys,
                pressure,
                event,
            }));
        }
    }
    rows
}
