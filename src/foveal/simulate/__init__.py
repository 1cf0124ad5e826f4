"""Small, seeded data sets with known truth and faults planted on purpose."""

from foveal.simulate.biopsy import simulate_biopsy as simulate_biopsy
from foveal.simulate.cells import simulate_cells as simulate_cells
from foveal.simulate.flukes import simulate_flukes as simulate_flukes
from foveal.simulate.retina import simulate_retina as simulate_retina
from foveal.simulate.scroll import simulate_scroll as simulate_scroll

__all__ = [
    "simulate_biopsy",
    "simulate_cells",
    "simulate_flukes",
    "simulate_retina",
    "simulate_scroll",
]
