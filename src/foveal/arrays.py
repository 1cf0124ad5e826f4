"""Axis words: one name for one meaning in every annotated signature.

======== ======================================================= =========
word     meaning                                                 unit
======== ======================================================= =========
case     what gets one prediction: a photograph, a volume, ...   count
column   an output of a member: a grade score, label, identity   count
stat     an additive statistic of a metric                       count
group    cases that no fold may split                            count
fold     one part of a cross-validation                          count
member   one trained model of an ensemble                        count
view     a test-time variant of a case                           count
channel  of an image                                             count
depth    slices of a volume                                      pixels
height   rows, from the top                                      pixels
width    columns, from the left                                  pixels
grade    ordinal classes 0 to K-1                                count
step     the K-1 questions "is the grade above k?"               count
======== ======================================================= =========

Scores are float32 on disk and float64 in decisions; pixels are unsigned integers until they reach
a device.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped

Pixels = Shaped[np.ndarray, "height width channel"]
"""One picture in OpenCV's order, 8 or 16 bit unsigned."""

Resized = Shaped[np.ndarray, "rows columns channel"]
"""A picture made from another one of another size."""
