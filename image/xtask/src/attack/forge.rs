//! Other keys and other TPMs that claim to be the box: its disk with another TPM, a key made in
//! software.

use hookprobe_evidence::{
    bundle::Evidence,
    credential::{self, make_credential},
    public::EndorsementKey,
    quote::AttestationKey,
    sample::Sample,
};

use super::{
    BOX, Campaign, FIRST,
    judge::{found, judge, nonce, parse, refused, words},
    parts::gone_later,
    time::state_is_locked,
};
use crate::{
    error::{Error, Result},
    vm::{Options, Port, folder, prepare, tpm},
};

/// Name of the machine with the box's disk and another TPM.
const TWIN: &str = "attack-twin";

/// Attacks 9, 10, the other half of 8 and the third part of 18.
pub(super) fn twin(campaign: &mut Campaign<'_>) -> Result<()> {
    let options = Options { tap: true, ..Options::lab(TWIN) };
    let dir = prepare(campaign.tree, campaign.image, &options)?;
    let original = folder::folder(campaign.tree, BOX);
    folder::adopt(&original, FIRST, &dir)?;
    let banks = options.tpm_banks.clone().unwrap_or_default();
    tpm::make(campaign.tree, &dir, &banks)?;
    let (mut vm, _) = campaign.boot(&Options { keep: true, ..options })?;
    let locked = state_is_locked(&mut vm, &["HP-AT-107", "HP-TP-123"]);
    let mut port = Port::plug(&vm)?;
    let challenge = nonce()?;
    let relayed = parse(&port.evidence(&challenge, true)?)?;
    relay(campaign, &challenge, &relayed)?;
    second_tpm(campaign, &mut port, &relayed, locked)?;
    software_key(campaign, &challenge)?;
    gone_later(campaign, &mut vm, &mut port)
}

/// Attack 9: the challenge for the box reaches the twin, and the twin's honest answer comes back.
fn relay(campaign: &mut Campaign<'_>, challenge: &[u8], relayed: &Evidence) -> Result<()> {
    let mut reference = campaign.judge.reference(challenge)?;
    reference.ak_name = Some(campaign.known()?.ak.clone());
    let honest = judge(relayed, &reference);
    let mut ok = refused(&honest) && found(&honest, "HP-QV-047");
    // The same under the box's name.
    let known = campaign.known()?;
    let dressed = Evidence {
        ak_public: known.evidence.ak_public.clone(),
        ek: known.evidence.ek.clone(),
        ..relayed.clone()
    };
    let dressed = judge(&dressed, &reference);
    ok &= refused(&dressed) && found(&dressed, "HP-QV-003");
    let text = format!("{}; under the box's name: {}", words(&honest), words(&dressed));
    campaign.saw(9, ok, text);
    // The other half of attack 8: the twin's own nonce for the box's challenge.
    let own = campaign.judge.reference(&campaign.known()?.nonce)?;
    let other = judge(relayed, &own);
    let ok = refused(&other) && found(&other, "HP-QV-045");
    campaign.saw(8, ok, format!("another node's nonce: {}", words(&other)));
    Ok(())
}

/// Attack 10: the second TPM can't open the state, and can't answer for the box's key.
fn second_tpm(
    campaign: &mut Campaign<'_>,
    port: &mut Port,
    twin: &Evidence,
    locked: Option<String>,
) -> Result<()> {
    let ek = twin.ek.as_ref().ok_or_else(|| Error::Check("evidence without its EK".into()))?;
    let check = |error: &dyn std::fmt::Display| Error::Check(error.to_string());
    let ek = EndorsementKey::from_public(&ek.public).map_err(|error| check(&error))?;
    let own = AttestationKey::from_public(&twin.ak_public).map_err(|error| check(&error))?;
    let mut random = [0; credential::RANDOM_BYTES];
    random.copy_from_slice(&[nonce()?, nonce()?].concat());
    let secret = nonce()?;
    let mut ask = |name| {
        let made = make_credential(&ek, name, &secret, &random).map_err(|error| check(&error))?;
        port.activate(&made.credential, &made.secret)
    };
    // For its own key it can: the credential is good.
    let proven = ask(own.name())? == secret;
    let claimed = ask(&campaign.known()?.ak);
    let ok = proven && claimed.is_err() && locked.is_some();
    let text = format!(
        "second TPM: state {}; credential for its own key opened: {proven}, for the box's: {}",
        locked.unwrap_or_else(|| "open".into()),
        claimed.map_or_else(|error| error.to_string(), |_| "opened".into()),
    );
    campaign.saw(10, ok, text);
    Ok(())
}

/// Attack 10: a key made in software signs a flawless quote over the expected registers.
fn software_key(campaign: &mut Campaign<'_>, challenge: &[u8]) -> Result<()> {
    let mut sample = Sample::new();
    sample.binding.nonce = challenge.to_vec().into();
    sample.binding.exporter = None;
    let known = campaign.known()?;
    let forged = Evidence {
        ek: known.evidence.ek.clone(),
        manifest: known.evidence.manifest.clone(),
        ..sample.evidence()
    };
    let mut reference = campaign.judge.reference(challenge)?;
    let unpinned = judge(&forged, &reference);
    reference.ak_name = Some(known.ak.clone());
    let pinned = judge(&forged, &reference);
    let ok = refused(&unpinned)
        && found(&unpinned, "HP-QV-053")
        && refused(&pinned)
        && found(&pinned, "HP-QV-047");
    campaign.saw(10, ok, format!("software AK: {}", words(&unpinned)));
    Ok(())
}
