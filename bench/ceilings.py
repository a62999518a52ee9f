"""What a card's arithmetic reaches: chains of multiply-adds in registers, as a Triton kernel."""

import triton
import triton.language as tl

PROGRAMS, LANES, STEPS = 1 << 14, 1024, 256


@triton.jit
def _chains(out, STEPS: tl.constexpr, LANES: tl.constexpr):
    kind = out.dtype.element_ty
    one = tl.arange(0, LANES).to(kind) * 1e-3 + tl.program_id(0).to(kind) * 1e-6
    two = one + 0.25
    three = one + 0.5
    four = one + 0.75
    factor = one * 1e-3 + 0.9
    for _step in range(STEPS):
        one = one * factor + 0.125
        two = two * factor + 0.125
        three = three * factor + 0.125
        four = four * factor + 0.125
    tl.store(out + tl.program_id(0), tl.sum(one + two + three + four, 0))


def operations(torch, device, dtype, timed):
    """Multiply-adds a second, each counted once."""
    out = torch.empty(PROGRAMS, dtype=getattr(torch, dtype), device=device)
    with torch.cuda.device(device):
        spent = timed(lambda: _chains[PROGRAMS,](out, STEPS=STEPS, LANES=LANES, num_warps=4))
    return 4.0 * STEPS * LANES * PROGRAMS / spent
