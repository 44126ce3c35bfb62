"""How far apart are the predictions of two networks on the same examples?"""

from __future__ import annotations

import numpy as np
from scipy.special import rel_entr

from .arrays import Array, check_logits, log_probabilities


def js_divergence(logits_a: Array, logits_b: Array) -> float:
    """Jensen-Shannon divergence of the softmax outputs, mean over examples, in bits.

    (KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2, divided by ln 2. In [0, 1]: 0 for equal outputs,
    exactly 1 for disjoint ones.

    >>> js_divergence(np.array([[1000.0, 0.0]]), np.array([[0.0, 1000.0]]))
    1.0

    Source: Lin, Divergence Measures Based on the Shannon Entropy, 1991.

    Args:
        logits_a, logits_b: logits (S, K) of two networks on the same examples.
    """
    a = check_logits(logits_a)
    b = check_logits(logits_b, like=a)
    p, q = np.exp(log_probabilities(a)), np.exp(log_probabilities(b))
    m = (p + q) / 2
    each = (rel_entr(p, m) + rel_entr(q, m)).sum(1) / 2 / np.log(2)
    return float(np.clip(each, 0, 1).mean())


def zero_retrain_forgetting(logits: Array, random_logits: Array) -> float:
    """ZRF: 1 - JS(network, a randomly initialised network) on the forget set.

    In [0, 1]; near 1, the network knows no more than an untrained one. Compare it with the ZRF of
    the retrained network, which also generalises to what it has not seen.

    Source: Chundawat et al., Can Bad Teaching Induce Forgetting?, AAAI 2023, section 4.

    Args:
        logits: logits (S, K) on the forget set.
        random_logits: logits (S, K) of the untrained network on the same examples.
    """
    return 1 - js_divergence(logits, random_logits)


def activation_distance(logits_a: Array, logits_b: Array) -> float:
    """L2 distance of the softmax outputs, mean over examples; in [0, sqrt 2], 0 is best.

    Source: the code of Chundawat et al., AAAI 2023: on the forget set, from the retrained network.
    Golatkar et al., Mixed-Privacy Forgetting, CVPR 2021, take the L1 distance.

    Args:
        logits_a, logits_b: logits (S, K) of two networks on the same examples.
    """
    a = check_logits(logits_a)
    b = check_logits(logits_b, like=a)
    difference = np.exp(log_probabilities(a)) - np.exp(log_probabilities(b))
    return float(np.linalg.norm(difference, axis=1).mean())
