#!/bin/bash
# Two hosts on one machine: a worm sends to UDP 1434, and four old commands keep it out.
# Runs inside namespaces of its own; `make demo` makes them.
set -eu
work=$(mktemp -d /run/demo.XXXX)
export IPSECD_SOCKET=$work/run/ipsecd.sock PATH=$(realpath "$1"):$PATH
mkdir -p "$work"/{etc,lib,run}

ip netns add worm
ip link add wire type veth peer name wire netns worm
ip address add 192.168.1.1/24 dev wire
ip link set wire up
ip -n worm address add 192.168.1.66/24 dev wire
ip -n worm link set wire up

step() { printf '\n# %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
attack() {
  : >"$work/received"
  socat -u UDP-RECV:1434 "OPEN:$work/received,append" & listener=$!
  sleep 0.3
  ip netns exec worm bash -c 'for n in 1 2 3 4 5; do echo slammer >/dev/udp/192.168.1.1/1434 || true; done'
  sleep 0.3
  kill $listener
  printf '  the worm sent 5 packets, the service received %s\n' "$(wc -l <"$work/received")"
}

step "The daemon starts"
ipsecd --config-dir "$work/etc" --state-dir "$work/lib" --runtime-dir "$work/run" 2>"$work/log" & daemon=$!
for _ in $(seq 100); do [ -S "$IPSECD_SOCKET" ] && break; sleep 0.1; done
run netdiag /test:ipsec
step "Before: everything passes"
attack

step "Keep the Slammer worm out, and in"
run IPSeccmd.exe -w REG -p "Block UDP 1434 Filter" -r "Block Inbound UDP 1434 Rule" -f '*=0:1434:UDP' -n BLOCK -x
run IPSeccmd.exe -w REG -p "Block UDP 1434 Filter" -r "Block Outbound UDP 1434 Rule" -f '0=*:1434:UDP' -n BLOCK
attack
run netdiag /test:ipsec /debug
run ipsecctl explain "udp 192.168.1.66:4000 > me:1434"
run ipsecctl stats

step "Unassigned, the packets flow again"
run IPSeccmd.exe -w REG -p "Block UDP 1434 Filter" -y
attack
run ipsecctl status
kill $daemon
wait $daemon
