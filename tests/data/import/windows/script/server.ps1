# What the web servers have.
Set-NetFirewallProfile -Profile Domain,Public,Private -DefaultInboundAction Block -DefaultOutboundAction Block -Enabled True
New-NetFirewallRule -DisplayName "Web in" -Direction Inbound -Protocol TCP -LocalPort 80,443 -Action Allow
New-NetFirewallRule -DisplayName 'SSH from the office' -Direction Inbound -Protocol TCP `
    -LocalPort 22 -RemoteAddress @("192.0.2.0/24", "2001:db8:10::/48") -Action Allow
New-NetFirewallRule -DisplayName "Names out" -Direction Outbound -Protocol UDP -RemotePort 53 -Action Allow
New-NetFirewallRule -DisplayName "Web out" -Direction Outbound -Protocol TCP -RemotePort 80,443 -RemoteAddress Any -Action Allow
New-NetFirewallRule -DisplayName "Never there" -Direction Outbound -RemoteAddress 198.51.100.0/25 -Action Block -Confirm:$false
New-NetFirewallRule -DisplayName "Ping" -Direction Inbound -Protocol ICMPv4 -IcmpType 8 -Action Allow
New-NetFirewallRule -DisplayName "From $office" -Direction Inbound -RemoteAddress $office -Action Allow
New-NetFirewallRule -DisplayName "Wireless" -Direction Inbound -InterfaceType Wireless -Action Block
Remove-NetFirewallRule -DisplayName "Web out" -ErrorAction SilentlyContinue
Restart-Service mpssvc
