"""./bench: measures Patchbay beside other switches, in one run, with one load generator.

generator   the load generator (tests/performance) as a process
candidates  what is measured: Patchbay, Open vSwitch with DPDK, testpmd between two vhost ports
uplinks     candidates with a kernel NIC, and the mirror behind it
tcp         real guests with iperf3
rows        what is measured about them
report      medians, ratios, tables, charts

./bench buffers:
buffers         receivers that stand still: what is tried, and in which order
stalls          one stall, between two processes of the load generator; stalled_guests: of a QEMU guest
isolation       what others notice of a guest that stands still
verdicts        what must be true of it, from counted frames
buffers_report  tables, and a heat map
"""
