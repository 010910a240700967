# The commands of Windows in a login shell; ipseccmd(1) says what they do. Other shells may read this too.

# net and sc understand what is about the IPSec Policy Agent, and hand the rest on to who follows on the path.
if [ -d /usr/lib/ipsecd/windows ]; then
	case :$PATH: in
	*:/usr/lib/ipsecd/windows:*) ;;
	*) PATH=/usr/lib/ipsecd/windows:$PATH ;;
	esac
fi

# A path knows no letter case. Whatever is no command is looked at once more, where a shell can be told how.
if [ -n "${BASH_VERSION-}${ZSH_VERSION-}" ] && ! typeset -f _ipsecd_not_found >/dev/null; then
	_ipsecd_is_of_windows() {
		case $(printf %s "$1" | tr '[:upper:]' '[:lower:]') in
		gpupdate | ipseccmd | ipsecpol | net | netdiag | netsh | sc | secedit) ;;
		gpupdate.exe | ipseccmd.exe | ipsecpol.exe | net.exe | netdiag.exe | netsh.exe | sc.exe | secedit.exe) ;;
		*) return 1 ;;
		esac
	}
	# bash and zsh have a name each for what is asked then. Who had it before is asked about all other words.
	_ipsecd_handler=command_not_found_handle${ZSH_VERSION:+r}
	if typeset -f "$_ipsecd_handler" >/dev/null; then
		eval "$(typeset -f "$_ipsecd_handler" | sed "1s/^$_ipsecd_handler/_ipsecd_before/")"
	fi
	_ipsecd_not_found() {
		if _ipsecd_is_of_windows "$1" && command -v ipsecctl >/dev/null; then
			ipsecctl "$@"
		elif typeset -f _ipsecd_before >/dev/null; then
			_ipsecd_before "$@"
		else
			printf '%s: command not found\n' "$1" >&2
			return 127
		fi
	}
	eval "$_ipsecd_handler() { _ipsecd_not_found \"\$@\"; }"
	unset _ipsecd_handler
fi
