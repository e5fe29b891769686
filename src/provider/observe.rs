use super::Profile;
use crate::observe::ObserveLayer;

impl ObserveLayer<Profile> {
    /// Observes calls of the provider that `profile` knows, to the end of their answers; outside a
    /// [`ProviderLayer`](super::ProviderLayer), whose bodies tell what they have used.
    ///
    /// ```
    /// use tower_relay::{observe::ObserveLayer, provider::Profile};
    ///
    /// let layer = ObserveLayer::of(&Profile::gemini());
    /// assert!(format!("{layer:?}").contains("gcp.gemini"));
    /// ```
    pub fn of(profile: &Profile) -> Self {
        let layer = ObserveLayer::new(profile.gen_ai_name());
        layer.protocol(profile.clone())
    }
}

impl Profile {
    /// The provider's name after OpenTelemetry's conventions (`gen_ai.provider.name`), where they
    /// have one, otherwise [`name`](Self::name).
    ///
    /// ```
    /// use tower_relay::provider::Profile;
    ///
    /// assert_eq!(Profile::bedrock().gen_ai_name(), "aws.bedrock");
    /// assert_eq!(Profile::generic().named("house").gen_ai_name(), "house");
    /// ```
    #[must_use]
    pub fn gen_ai_name(&self) -> &str {
        match self.name() {
            "azure-openai" => "azure.ai.openai",
            "bedrock" => "aws.bedrock",
            "gemini" => "gcp.gemini",
            "mistral" => "mistral_ai",
            name => name,
        }
    }
}
