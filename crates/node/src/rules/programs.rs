//! Programs that are not moved automatically, by their names: a table to be read and added to.

use super::pattern::glob;
use model::StayCode;

/// Names of programs, and what they are.
const TABLE: &[(StayCode, &[&str])] = &[
    (
        StayCode::Interactive,
        &[
            // Editors.
            "ed", "ex", "vi", "vim", "vim.*", "nvim", "nano", "pico", "emacs*", "mg", "joe", "jed", "micro",
            "hx", "helix", "kak", "mcedit", "gedit", "kate", "kwrite", "code", "codium", "subl",
            // Readers and watchers.
            "less", "more", "most", "man", "info", "top", "htop", "btop", "atop", "mosmon", "mtop", "watch",
            "mc", "ranger", "mutt", "neomutt", "irssi", "weechat", "lynx", "w3m", "links",
            // Those that hold other processes.
            "gdb", "lldb", "strace", "ltrace", "rr", "perf",
        ],
    ),
    (
        StayCode::Desktop,
        &[
            "Xorg",
            "X",
            "Xwayland",
            "Xvfb",
            "Xvnc*",
            "gnome-*",
            "gsd-*",
            "gvfs*",
            "mutter*",
            "gdm*",
            "gjs",
            "kwin*",
            "plasma*",
            "kded*",
            "ksmserver",
            "kdeinit*",
            "sddm*",
            "lightdm*",
            "xfce4-*",
            "xfwm4",
            "xfdesktop",
            "sway",
            "weston",
            "wayfire",
            "hyprland*",
            "i3",
            "openbox",
            "fluxbox",
            "dwm",
            "cinnamon*",
            "mate-*",
            "marco",
            "nautilus",
            "dolphin",
            "thunar",
            "xterm",
            "uxterm",
            "rxvt*",
            "urxvt*",
            "konsole",
            "alacritty",
            "kitty",
            "foot",
            "wezterm*",
            "firefox*",
            "chromium*",
            "chrome*",
            "thunderbird*",
            "evolution*",
            "soffice*",
            "pulseaudio",
            "pipewire*",
            "wireplumber",
            "at-spi*",
            "ibus*",
            "fcitx*",
            "xdg-*",
            "gnome-keyring*",
            "dconf-service",
            "ssh-agent",
            "gpg-agent",
            "redshift",
            "steam*",
        ],
    ),
    (StayCode::Multiplexer, &["tmux*", "screen", "SCREEN", "zellij", "byobu", "dtach", "abduco", "script"]),
    (
        StayCode::Daemon,
        &[
            "init",
            "systemd",
            "systemd-*",
            "(sd-pam)",
            "openrc*",
            "runit",
            "runsv*",
            "s6-*",
            "dinit",
            "agetty",
            "getty",
            "mingetty",
            "login",
            "su",
            "sudo",
            "doas",
            "pkexec",
            "polkitd",
            "dbus-*",
            "sshd*",
            "ssh",
            "mosh-*",
            "sftp-server",
            "rsyslogd",
            "syslog-ng",
            "klogd",
            "cron",
            "crond",
            "atd",
            "anacron",
            "udevd",
            "NetworkManager",
            "wpa_supplicant",
            "dhclient",
            "dhcpcd",
            "chronyd",
            "ntpd",
            "avahi-*",
            "cupsd",
            "rpcbind",
            "rpc.*",
            "nfsd",
            "smbd",
            "nmbd",
            "dockerd",
            "containerd*",
            "docker-*",
            "runc",
            "crun",
            "conmon",
            "podman",
            "lxc-*",
            "libvirtd",
            "virtlogd",
            "qemu-*",
            "apache2",
            "httpd",
            "nginx",
            "postgres",
            "mysqld",
            "mariadbd",
            "redis-server",
            "memcached",
            "exim*",
            "dovecot*",
            "named",
            "unbound",
            "dnsmasq",
            "snapd",
            "packagekitd",
            "udisksd",
            "upowerd",
            "accounts-daemon",
            "irqbalance",
            "acpid",
            "thermald",
            "smartd",
        ],
    ),
];

/// Shells: they stay where somebody types into them, and go where they run a script.
const SHELLS: &[&str] = &[
    "sh", "bash", "rbash", "dash", "ash", "busybox", "zsh", "ksh*", "mksh", "csh", "tcsh", "fish", "nu",
    "elvish", "xonsh",
];

/// Options of shells that take the next word as their value.
const WITH_VALUE: &[&str] = &["--rcfile", "--init-file", "-O", "+O", "-o", "+o"];

/// What the table says of a program with one of these names, and the name.
pub(super) fn known<'a>(names: &[&'a str]) -> Option<(StayCode, &'a str)> {
    let row = |name: &'a str| {
        let fits = |patterns: &[&str]| patterns.iter().any(|pattern| glob(pattern, name));
        TABLE.iter().find(|(_, patterns)| fits(patterns)).map(|(code, _)| (*code, name))
    };
    names.iter().find_map(|name| row(name))
}

/// Whether it is a shell that somebody types into, by its names and its arguments, its own name first.
pub(super) fn is_interactive_shell(names: &[&str], arguments: &[String]) -> bool {
    let shell = names.iter().any(|name| SHELLS.iter().any(|pattern| glob(pattern, name)));
    if !shell {
        return false;
    }
    let (Some(own), words) = (arguments.first(), arguments.get(1..).unwrap_or_default()) else { return true };
    let short =
        |word: &str, letter: char| word.starts_with('-') && !word.starts_with("--") && word.contains(letter);
    let mut words = words.iter().map(String::as_str);
    // A login shell's name begins so.
    let mut interactive = own.starts_with('-');
    while let Some(word) = words.next() {
        match word {
            "--" => return interactive || words.next().is_none(),
            _ if WITH_VALUE.contains(&word) => drop(words.next()),
            _ if short(word, 'c') => return interactive || short(word, 'i'),
            _ if word.starts_with('-') || word.starts_with('+') => interactive |= short(word, 'i'),
            // The script.
            _ => return interactive,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_what_people_work_with() {
        for (name, code) in [
            ("vim", Some(StayCode::Interactive)),
            ("tmux: server", Some(StayCode::Multiplexer)),
            ("gnome-shell", Some(StayCode::Desktop)),
            ("systemd-journald", Some(StayCode::Daemon)),
            ("sshd-session", Some(StayCode::Daemon)),
            ("lame", None),
            ("python3", None),
            ("cc1", None),
            ("awk", None),
        ] {
            assert_eq!(known(&["x", name]).map(|(code, _)| code), code, "{name}");
        }
    }

    #[test]
    fn a_shell_stays_where_somebody_types() {
        for (line, interactive) in [
            ("bash", true),
            ("-bash", true),
            ("bash -i", true),
            ("bash --norc --rcfile x", true),
            ("bash -o posix", true),
            ("sh -", true),
            ("-sh script", true),
            ("bash -ic true", true),
            ("sh -c true", false),
            ("bash -lc true", false),
            ("bash -x script argument", false),
            ("bash -o posix script", false),
            ("sh -- script", false),
            ("python3", false),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let name = words[0].trim_start_matches('-');
            assert_eq!(is_interactive_shell(&[name], &words), interactive, "{line}");
        }
        assert!(is_interactive_shell(&["zsh"], &[]));
    }
}
