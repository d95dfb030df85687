//! Who may ask: users with their passwords, and tokens.
//!
//! A password is hashed by bcrypt, which is slow on purpose: one at a time, away from the reactor, and what came of it is
//! remembered. Who guesses learns nothing from how long it takes, and cannot pile up work.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::alphabet::BCRYPT;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use tokio::sync::Semaphore;
use tokio::task;

use super::file::Reader;
use super::sha256;
use crate::config::fields::{Field, Fields};
use crate::error::{ConfigError, Origin};

/// How many may wait while a password is hashed. At a tenth of a second each the last of them waits for as long as a
/// scraper does.
const MAX_WAITING: usize = 32;

/// How many right passwords are remembered, and how many wrong ones.
const MAX_REMEMBERED: usize = 128;

/// A token that nobody guesses has at least these characters: 96 bits in base64.
const MIN_TOKEN: usize = 16;

/// Other implementations write what they like into the bits that are left over at the end of a salt.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    /// 401, with these values of `WWW-Authenticate`.
    Denied { challenges: Vec<HeaderValue> },
    /// 503: too many wait for their passwords to be checked.
    Busy,
}

/// Who may ask. Without users and tokens everybody.
pub(super) struct Access {
    users: HashMap<String, Hash>,
    /// What the users' passwords cost to check, one for each of them.
    costs: Vec<u32>,
    /// The digests of the tokens.
    tokens: Vec<Vec<u8>>,
    strangers: RandomState,
    remembered: Arc<Mutex<Remembered>>,
    /// For each that waits, and the one that is checked.
    places: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (users, tokens) = (self.users.len(), self.tokens.len());
        f.debug_struct("Access").field("users", &users).field("tokens", &tokens).finish_non_exhaustive()
    }
}

impl Access {
    pub(super) fn read(reader: &mut Reader<'_>, root: &Fields<'_>) -> Result<Self, ConfigError> {
        let mut users = HashMap::new();
        let mut costs = Vec::new();
        if let Some(field) = reader.decoder.get(root, "basic_auth_users").filter(|field| !field.is_null()) {
            for user in reader.decoder.any_fields(&field)?.all() {
                let hash = hash_of(reader, &field, &user)?;
                costs.push(hash.cost);
                users.insert(user.key().to_owned(), hash);
            }
        }
        let tokens = match reader.text(root, "bearer_token_file")? {
            Some((field, name)) => tokens(reader, &field, &name)?,
            None => Vec::new(),
        };
        Ok(Self {
            users,
            costs,
            tokens,
            strangers: RandomState::new(),
            remembered: Arc::default(),
            places: Arc::new(Semaphore::new(MAX_WAITING + 1)),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    pub(super) fn is_restricted(&self) -> bool {
        !self.users.is_empty() || !self.tokens.is_empty()
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.users == other.users && self.tokens == other.tokens
    }

    pub(super) async fn authenticate(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        if !self.is_restricted() {
            return Ok(());
        }
        // Of several, others on the way may have looked at another one.
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return Err(self.denied()) };
        let is_right = match Credentials::parse(value) {
            Some(Credentials::Token(token)) => self.has_token(token),
            Some(Credentials::Password { user, password }) if !self.users.is_empty() => {
                self.has_password(user, password).await?
            }
            _ => false,
        };
        if is_right { Ok(()) } else { Err(self.denied()) }
    }

    fn denied(&self) -> Unauthorized {
        let basic = (!self.users.is_empty()).then_some("Basic realm=\"metrics\", charset=\"UTF-8\"");
        let bearer = (!self.tokens.is_empty()).then_some("Bearer realm=\"metrics\"");
        Unauthorized::Denied { challenges: basic.into_iter().chain(bearer).map(HeaderValue::from_static).collect() }
    }

    fn has_token(&self, token: &str) -> bool {
        let digest = sha256(&[token.as_bytes()]);
        // All of them are compared, whichever it is.
        self.tokens.iter().fold(false, |found, known| is_equal(known, &digest) | found)
    }

    async fn has_password(&self, user: Vec<u8>, password: Vec<u8>) -> Result<bool, Unauthorized> {
        let known = std::str::from_utf8(&user).ok().and_then(|user| self.users.get(user));
        // A stranger's password is checked as well, so that it takes as long.
        let hash = known.cloned().unwrap_or_else(|| self.hash_of_stranger(&user));
        let key = sha256(&[&user, &hash.cost.to_be_bytes(), &hash.salt, &hash.digest, &password]);
        let is_right = match self.remembered(&key) {
            Some(is_right) => is_right,
            None => self.check(key, hash, password).await?,
        };
        Ok(is_right && known.is_some())
    }

    /// Where users' passwords differ in cost, strangers' do too, each name's always in the same way.
    fn hash_of_stranger(&self, user: &[u8]) -> Hash {
        let count = self.costs.len().max(1) as u64;
        let index = usize::try_from(self.strangers.hash_one(user) % count).unwrap_or_default();
        Hash { cost: self.costs.get(index).copied().unwrap_or(MIN_COST), salt: [0; 16], digest: [0; 23] }
    }

    fn remembered(&self, key: &[u8]) -> Option<bool> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(key)
    }

    async fn check(&self, key: Vec<u8>, hash: Hash, password: Vec<u8>) -> Result<bool, Unauthorized> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Unauthorized::Busy)?;
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| Unauthorized::Busy)?;
        // Whoever stood before may have asked the same.
        if let Some(is_right) = self.remembered(&key) {
            return Ok(is_right);
        }
        let remembered = Arc::clone(&self.remembered);
        let work = move || {
            let is_right = hash.is_of(&password);
            remembered.lock().unwrap_or_else(PoisonError::into_inner).add(key, is_right);
            // Held here and not by the request, which may go away: the next one begins when this has ended.
            drop((turn, place));
            is_right
        };
        task::spawn_blocking(work).await.map_err(|_| Unauthorized::Busy)
    }
}

/// Whether two are equal, in a time that does not depend on where they differ.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |different, (one, other)| different | (one ^ other)) == 0
}

/// What came of checking passwords, by digests of all that it depends on. The oldest is forgotten first; who guesses fills
/// only the list of wrong ones.
#[derive(Default)]
struct Remembered {
    right: VecDeque<Vec<u8>>,
    wrong: VecDeque<Vec<u8>>,
}

impl Remembered {
    fn get(&self, key: &[u8]) -> Option<bool> {
        let has = |list: &VecDeque<Vec<u8>>| list.iter().any(|known| known == key);
        if has(&self.right) {
            Some(true)
        } else if has(&self.wrong) {
            Some(false)
        } else {
            None
        }
    }

    fn add(&mut self, key: Vec<u8>, is_right: bool) {
        let list = if is_right { &mut self.right } else { &mut self.wrong };
        if list.len() >= MAX_REMEMBERED {
            list.pop_front();
        }
        list.push_back(key);
    }
}

/// What an `Authorization` header says.
enum Credentials<'a> {
    Password { user: Vec<u8>, password: Vec<u8> },
    Token(&'a str),
}

impl<'a> Credentials<'a> {
    fn parse(value: &'a HeaderValue) -> Option<Self> {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        let rest = rest.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Token(rest));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let mut user = STANDARD.decode(rest).ok()?;
        let colon = user.iter().position(|byte| *byte == b':')?;
        let password = user.split_off(colon + 1);
        user.truncate(colon);
        Some(Self::Password { user, password })
    }
}

const MIN_COST: u32 = 4;
const MAX_COST: u32 = 31;

/// What bcrypt makes of a password.
#[derive(Clone, PartialEq, Eq)]
struct Hash {
    cost: u32,
    salt: [u8; 16],
    digest: [u8; 23],
}

impl Hash {
    /// `$2y$`, two digits of cost, `$`, 22 characters of salt and 31 of the hash; or what is wrong with it.
    fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected one as `htpasswd -nBC 10 NAME` prints it";
        let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|version| text.strip_prefix(version));
        let Some(rest) = rest else {
            return Err(match text.starts_with("$2") {
                true => "a bcrypt hash of an unknown version, expected $2a$, $2b$ or $2y$".to_owned(),
                false => format!("no bcrypt hash, {EXPECTED}"),
            });
        };
        if text.len() != 60 || !text.is_ascii() {
            let length = text.chars().count();
            return Err(format!("a bcrypt hash of {length} characters where 60 are one, {EXPECTED}"));
        }
        let no_cost = || format!("a bcrypt hash without a cost of {MIN_COST:02} to {MAX_COST}, {EXPECTED}");
        let (cost, encoded) = rest.split_once('$').ok_or_else(no_cost)?;
        let is_cost = cost.len() == 2 && cost.bytes().all(|digit| digit.is_ascii_digit());
        let cost = cost.parse().ok().filter(|cost| is_cost && (MIN_COST..=MAX_COST).contains(cost));
        let cost = cost.ok_or_else(no_cost)?;
        let (salt, digest) = encoded.split_at(22);
        let bytes = |text: &str| {
            BASE64.decode(text).map_err(|_| format!("a bcrypt hash with a character that none has, {EXPECTED}"))
        };
        let (salt, digest) = (bytes(salt)?, bytes(digest)?);
        match (salt.try_into(), digest.try_into()) {
            (Ok(salt), Ok(digest)) => Ok(Self { cost, salt, digest }),
            _ => Err(format!("a bcrypt hash of another length, {EXPECTED}")),
        }
    }

    fn is_of(&self, password: &[u8]) -> bool {
        // bcrypt looks at 72 bytes, a final zero among them, and other implementations leave the rest out too.
        let mut password = password.get(..72).unwrap_or(password).to_vec();
        password.push(0);
        password.truncate(72);
        let found = bcrypt::bcrypt(self.cost, self.salt, &password);
        found.get(..self.digest.len()).is_some_and(|found| is_equal(found, &self.digest))
    }
}

fn hash_of(reader: &Reader<'_>, users: &Field<'_>, user: &Field<'_>) -> Result<Hash, ConfigError> {
    let name = user.key();
    // The name stands in every other error.
    if name.starts_with("$2") {
        return Err(reader.decoder.error_at(users, "a hash where a name should be, expected `NAME: HASH`"));
    }
    if name.contains(':') {
        return Err(reader
            .decoder
            .error_at(user, "a name with a colon, which ends the name when it is sent, expected another"));
    }
    let text = reader.decoder.text(user, "a bcrypt hash")?;
    Hash::parse(&text).map_err(|problem| reader.decoder.error_at(user, problem))
}

/// The digests of the tokens in a file.
fn tokens(reader: &mut Reader<'_>, field: &Field<'_>, name: &str) -> Result<Vec<Vec<u8>>, ConfigError> {
    let (path, bytes) = reader.file(field, name, "a file with a token on each line")?;
    let mut digests = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let token = line.trim_ascii();
        if token.is_empty() || token.starts_with(b"#") {
            continue;
        }
        let end = token.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
        let letters = token.get(..end).unwrap_or_default();
        let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
        let problem = if letters.is_empty() || !letters.iter().all(is_letter) {
            "a token with a character that none has, expected letters, digits and -._~+/ with = at the end".to_owned()
        } else if token.len() < MIN_TOKEN {
            format!("a token of {} characters, expected at least {MIN_TOKEN} that nobody guesses", token.len())
        } else {
            digests.push(sha256(&[token]));
            continue;
        };
        let origin = Origin::File { path, line: index + 1, column: 1 };
        return Err(ConfigError { origin, path: field.path.clone(), problem });
    }
    if digests.is_empty() {
        let problem = format!("{} has no token, expected one on each line", path.display());
        return Err(reader.decoder.error_at(field, problem));
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use std::task::Poll;
    use std::time::Duration;

    use tokio::task::JoinSet;
    use tokio::time;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    impl Access {
        /// How many right and how many wrong passwords are remembered.
        pub(in super::super) fn remembered_counts(&self) -> (usize, usize) {
            let remembered = self.remembered.lock().unwrap();
            (remembered.right.len(), remembered.wrong.len())
        }
    }

    fn access(users: &[(&str, u32)]) -> Access {
        let hash = |cost| Hash { cost, salt: [0; 16], digest: [1; 23] };
        Access {
            users: users.iter().map(|(name, cost)| ((*name).to_owned(), hash(*cost))).collect(),
            costs: users.iter().map(|(_, cost)| *cost).collect(),
            tokens: Vec::new(),
            strangers: RandomState::new(),
            remembered: Arc::default(),
            places: Arc::new(Semaphore::new(MAX_WAITING + 1)),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    #[test]
    fn a_stranger_costs_what_a_user_does() {
        let alike = access(&[("ann", 11), ("ben", 11)]);
        assert!((0..100_u32).all(|name| alike.hash_of_stranger(&name.to_be_bytes()).cost == 11));
        // Whoever knows the costs cannot tell from one whether there is such a user.
        let different = access(&[("ann", 4), ("ben", 12)]);
        let costs: Vec<u32> = (0..100_u32).map(|name| different.hash_of_stranger(&name.to_be_bytes()).cost).collect();
        assert!(costs.contains(&4) && costs.contains(&12) && costs.iter().all(|cost| [4, 12].contains(cost)));
        assert_eq!(different.hash_of_stranger(b"x").cost, different.hash_of_stranger(b"x").cost);
    }

    #[tokio::test]
    async fn a_strangers_password_is_hashed_and_remembered_like_a_users() {
        let access = access(&[("ann", 4)]);
        for (user, wrong) in [("ann", 1), ("ann", 1), ("eve", 2), ("eve", 2)] {
            assert_eq!(access.has_password(user.into(), b"guess".to_vec()).await, Ok(false));
            assert_eq!(access.remembered_counts(), (0, wrong), "{user}");
        }
    }

    #[tokio::test]
    async fn what_is_remembered_of_a_stranger_never_lets_in() {
        let access = access(&[("ann", 4)]);
        let (user, password) = (b"eve".to_vec(), b"x".to_vec());
        let hash = access.hash_of_stranger(&user);
        let key = sha256(&[&user, &hash.cost.to_be_bytes(), &hash.salt, &hash.digest, &password]);
        access.remembered.lock().unwrap().add(key, true);
        assert_eq!(access.has_password(user, password).await, Ok(false));
    }

    #[tokio::test]
    async fn wrong_passwords_do_not_pile_up_work() {
        let mut access = access(&[("ann", 4)]);
        access.users.insert("ann".to_owned(), Hash::parse(&bcrypt::hash("secret", 4).unwrap()).unwrap());
        let access = Arc::new(access);
        assert_eq!(access.has_password(b"ann".to_vec(), b"secret".to_vec()).await, Ok(true));
        let turn = Arc::clone(&access.turn).acquire_owned().await.unwrap();
        let mut waiting = JoinSet::new();
        for _ in 0..=MAX_WAITING {
            let access = Arc::clone(&access);
            waiting.spawn(async move { access.has_password(b"ann".to_vec(), b"guess".to_vec()).await });
        }
        let all_wait = async {
            while access.places.available_permits() > 0 {
                task::yield_now().await;
            }
        };
        time::timeout(DEADLINE, all_wait).await.unwrap();
        let another = access.has_password(b"ann".to_vec(), b"another".to_vec()).await;
        assert_eq!(another, Err(Unauthorized::Busy));
        // Whoever has been let in before is not kept waiting.
        assert_eq!(access.has_password(b"ann".to_vec(), b"secret".to_vec()).await, Ok(true));
        drop(turn);
        while let Some(result) = time::timeout(DEADLINE, waiting.join_next()).await.unwrap() {
            assert_eq!(result.unwrap(), Ok(false));
        }
        // One of them was hashed, and the others saw what came of it.
        assert_eq!(access.remembered_counts(), (1, 1));
        assert_eq!(access.places.available_permits(), MAX_WAITING + 1);
    }

    #[tokio::test]
    async fn a_request_that_goes_away_keeps_its_turn_until_its_password_is_hashed() {
        let access = Arc::new(access(&[("ann", 4)]));
        let (asked, password) = (Arc::clone(&access), b"guess".to_vec());
        // The first poll hands the work over; the request is gone before it looks again.
        let mut request = Box::pin(async move { asked.has_password(b"ann".to_vec(), password).await });
        std::future::poll_fn(|context| {
            let _ = request.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
        drop(request);
        drop(time::timeout(DEADLINE, access.turn.acquire()).await.unwrap().unwrap());
        assert_eq!(access.remembered_counts(), (0, 1));
    }

    #[test]
    fn wrong_passwords_do_not_push_right_ones_out() {
        let mut remembered = Remembered::default();
        remembered.add(b"right".to_vec(), true);
        for number in 0..1_000_u32 {
            remembered.add(number.to_be_bytes().to_vec(), false);
        }
        assert_eq!(remembered.get(b"right"), Some(true));
        assert_eq!(remembered.get(&999_u32.to_be_bytes()), Some(false));
        assert_eq!(remembered.get(&0_u32.to_be_bytes()), None);
        assert_eq!(remembered.wrong.len(), MAX_REMEMBERED);
        for number in 0..1_000_u32 {
            remembered.add(number.to_be_bytes().to_vec(), true);
        }
        assert_eq!(remembered.right.len(), MAX_REMEMBERED);
    }

    #[test]
    fn parts_of_a_digest_cannot_be_moved_into_one_another() {
        assert_ne!(sha256(&[b"ab", b"c"]), sha256(&[b"a", b"bc"]));
        assert_ne!(sha256(&[b"ab"]), sha256(&[b"ab", b""]));
        assert_eq!(sha256(&[b"ab"]).len(), 32);
    }

    #[test]
    fn hashes_are_read_as_bcrypt_writes_them() {
        const GOOD: &str = "$2y$10$abcdefghijklmnopqrstuuKHQeEDGKZ6yT4MHpBT9X3WbFNn6/WTm";
        assert_eq!(Hash::parse(GOOD).map(|hash| hash.cost), Ok(10));
        // The last character of a salt has two bits that count; others write what they like into the rest.
        assert!(Hash::parse(&GOOD.replace("tuuKHQ", "tuvKHQ")).is_ok());
        for (wrong, expected) in [
            ("", "no bcrypt hash"),
            ("secret", "no bcrypt hash"),
            ("$1$abc", "no bcrypt hash"),
            (&GOOD.replace("$2y$", "$2x$"), "a bcrypt hash of an unknown version"),
            (&GOOD.replace("$2y$", "$2$"), "a bcrypt hash of an unknown version"),
            (&GOOD.replace("Tm", "T"), "a bcrypt hash of 59 characters"),
            (&GOOD.replace("Tm", "Tmm"), "a bcrypt hash of 61 characters"),
            (&GOOD.replace("Tm", "ä"), "a bcrypt hash of 59 characters"),
            (&GOOD.replace("$10$", "$03$"), "a bcrypt hash without a cost of 04 to 31"),
            (&GOOD.replace("$10$", "$32$"), "a bcrypt hash without a cost of 04 to 31"),
            (&GOOD.replace("$10$", "$+9$"), "a bcrypt hash without a cost of 04 to 31"),
            (&GOOD.replace("$10$a", "$1$aa"), "a bcrypt hash without a cost of 04 to 31"),
            (&GOOD.replace("ab", "a!"), "a bcrypt hash with a character that none has"),
        ] {
            let problem = Hash::parse(wrong).map(|_| ()).unwrap_err();
            assert!(problem.starts_with(expected) && problem.contains("expected"), "{wrong}: {problem}");
        }
    }

    #[test]
    fn passwords_are_hashed_as_others_do_it() {
        // By htpasswd and by Go, from exporter-toolkit's tests.
        let hash = Hash::parse("$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi").unwrap();
        assert!(hash.is_of(b"fakepassword"));
        assert!(!hash.is_of(b"fakepasswor") && !hash.is_of(b"") && !hash.is_of(b"fakepassword\0"));
    }
}
