//! From root to an ordinary user, for good.
//!
//! It must happen before there is a thread or a ring: workers of the kernel keep the user of whoever made
//! their ring. Order and checks are those of setuid(2) and setgroups(2): groups first, because without
//! root they could not be left; all three user ids, so that none is kept to return to; and then it is
//! tried to return.

use std::fmt;
use std::fs;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{
    Gid, Group, Uid, User, geteuid, getgroups, getresgid, getresuid, setgroups, setresgid,
    setresuid, setuid,
};

/// Whom to become: names or numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    user: String,
    group: Option<String>,
}

impl FromStr for Identity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Identity, &'static str> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group.to_owned())),
            None => (text, None),
        };
        if user.is_empty() || group.as_ref().is_some_and(String::is_empty) {
            return Err("write it as NAME or NAME:GROUP");
        }
        Ok(Identity { user: user.to_owned(), group })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ":{group}"))
    }
}

/// Becomes the user, and can become nobody else any more.
///
/// # Errors
///
/// Who is unknown; who is not root and asks for another; who has threads already; and whatever shows
/// that root is not left behind. The process must end then.
pub(crate) fn become_user(identity: &Identity) -> anyhow::Result<()> {
    let (user, group) = find(identity)?;
    ensure!(!user.is_root(), "--user {identity} is root: leave it out, or name an ordinary user");
    if !geteuid().is_root() {
        ensure!(
            geteuid() == user,
            "cannot become {identity}: only root can; start as root, or leave --user out"
        );
    } else {
        let threads = fs::read_dir("/proc/self/task").context("cannot count threads")?.count();
        ensure!(threads == 1, "cannot become {identity}: there are {threads} threads already");
        let cannot = || format!("cannot become {identity}");
        setgroups(&[group]).with_context(cannot)?;
        setresgid(group, group, group).with_context(cannot)?;
        setresuid(user, user, user).with_context(cannot)?;
        verify(user, group).with_context(cannot)?;
    }
    set_no_new_privs().context("cannot give up new privileges (PR_SET_NO_NEW_PRIVS)")
}

fn find(identity: &Identity) -> anyhow::Result<(Uid, Gid)> {
    let Identity { user: name, group } = identity;
    let known = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    let known = known.with_context(|| format!("cannot look up the user {name}"))?;
    let user = match (&known, name.parse()) {
        (Some(known), _) => known.uid,
        (None, Ok(number)) => Uid::from_raw(number),
        (None, Err(_)) => bail!("there is no user {name}: make one, or name another with --user"),
    };
    let group = match group {
        None => match known {
            Some(known) => known.gid,
            None => bail!("the user {name} has no group of its own: write {name}:GROUP"),
        },
        Some(name) => match name.parse() {
            Ok(number) => Gid::from_raw(number),
            Err(_) => {
                let group = Group::from_name(name);
                let group = group.with_context(|| format!("cannot look up the group {name}"))?;
                let Some(group) = group else {
                    bail!("there is no group {name}: make one, or name another with --user");
                };
                group.gid
            }
        },
    };
    Ok((user, group))
}

/// Looks whether root is out of reach.
fn verify(user: Uid, group: Gid) -> anyhow::Result<()> {
    let (users, groups) = (getresuid()?, getresgid()?);
    ensure!(
        [users.real, users.effective, users.saved] == [user; 3]
            && [groups.real, groups.effective, groups.saved] == [group; 3]
            && getgroups()? == [group],
        "the kernel has kept another user or group"
    );
    ensure!(setuid(Uid::from_raw(0)).is_err(), "it is possible to become root again");
    let status = fs::read_to_string("/proc/self/status").context("cannot read capabilities")?;
    let held = status.lines().filter(|line| {
        let begins = ["CapPrm:", "CapEff:", "CapAmb:"].iter().any(|name| line.starts_with(name));
        begins && line.split_whitespace().nth(1) != Some("0000000000000000")
    });
    let held: Vec<&str> = held.collect();
    ensure!(held.is_empty(), "capabilities are left: {held:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        for text in ["nobody", "www-data:www-data", "1000:100"] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
        for text in ["", ":", "a:", ":b"] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }

    #[test]
    fn root_and_strangers_are_refused_before_anything_is_given_up() {
        let refused =
            |text: &str| format!("{:#}", become_user(&text.parse().unwrap()).unwrap_err());
        assert!(refused("root").contains("is root"));
        assert!(refused("0:0").contains("is root"));
        assert!(refused("no-such-user-here").contains("there is no user no-such-user-here"));
        assert!(refused("1:no-such-group-here").contains("there is no group"));
        assert!(refused("4294967000").contains("write 4294967000:GROUP"));
        if geteuid().is_root() {
            // A test has threads, which is what must not be.
            assert!(refused("12345:12345").contains("threads already"));
        }
    }
}
