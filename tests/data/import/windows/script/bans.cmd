@echo off
rem what the night watch bans
netsh advfirewall set allprofiles firewallpolicy blockinbound,allowoutbound
netsh advfirewall firewall delete rule name="Ban 1" > nul
netsh advfirewall firewall add rule name="Ban 1" dir=in action=block remoteip=203.0.113.7,203.0.113.64/26,198.51.100.3-198.51.100.9 && echo banned
netsh.exe AdvFirewall Firewall Add Rule Name="Ban 1, out" Dir=Out Action=Block RemoteIP=203.0.113.7
netsh advfirewall firewall add rule name="No RPC" dir=in action=block ^
  protocol=TCP localport=135-139,445
netsh advfirewall firewall add rule name="No ping" dir=in action=block protocol=icmpv4:8,any
netsh advfirewall firewall add rule name="Ban %1" dir=in action=block remoteip=%1
netsh advfirewall firewall add rule name="Game" dir=in action=allow program="C:\Games\game.exe" enable=yes
netsh advfirewall firewall set rule group="remote desktop" new enable=No
netsh advfirewall firewall add rule name="Twice" dir=in action=allow protocol=udp localport=5000
netsh advfirewall firewall delete rule name=Twice
ipconfig /flushdns
