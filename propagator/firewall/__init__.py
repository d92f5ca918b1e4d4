"""The host's own packet filter: captured as root by a helper (`listing`), read back without privileges (`state`).

What it means is reckoned in `core.ruleset`; `replay` asks the kernel for a second opinion, on a copy in a scratch
namespace; `charge` says what people manage the filter with. Nothing here ever changes the host's filter.
"""
