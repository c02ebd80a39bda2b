"""./bench: measures Patchbay beside other switches, in one run, with one load generator.

generator   the load generator (tests/performance) as a process
candidates  what is measured: Patchbay, Open vSwitch with DPDK, testpmd between two vhost ports
uplinks     candidates with a kernel NIC, and the mirror behind it
tcp         real guests with iperf3
rows        what is measured about them
report      medians, ratios, tables, charts
"""
