"""Scenarios name what is to be forgotten, and split a training set accordingly for any seed.

===================================  =======================================================
``"random 10%"``, ``"random 100"``   a tenth of the images, or a hundred, drawn at random
``"5 requests of 2%"``               five requests, one after the other; see ``Request``
``"class 5"``, ``"class dog"``       all images of a class, by its number or name
``"class 3, 8"``                     all images of two classes at once
``"subclass 69"``                    a class within a superclass, which is what is learnt
``"group 3"``, ``"group 3, 7"``      all images of a writer or an identity, or of two
``"2 groups"``                       two of them, drawn at random
``"cluster 3"``, ``"2 clusters"``    groups of images that look alike, where no others are known
``"memorised high 10%"``             drawn from the low, middle or high third by memorisation
``"exposed 5%"``                     the images with the highest scores
``"mislabelled 10%"``                a tenth of all images has a wrong label: these
``"mislabelled 10%, 50% known"``     half of them; the other half stays
``"mislabelled 10% of 3, 8"``        a tenth of each of two classes has the label of the other
===================================  =======================================================

What is drawn is another draw for every seed. Some names need more than themselves, which
``Scenario.parse`` takes: scores, or superclasses of one's own.
"""

from .base import Scenario
from .drawn import Random, Request
from .mislabelled import Mislabelled
from .named import choose, scenarios_of
from .of_classes import Classes, Subclass
from .of_groups import Clusters, Groups
from .of_scores import Scored

__all__ = [
    "Classes",
    "Clusters",
    "Groups",
    "Mislabelled",
    "Random",
    "Request",
    "Scenario",
    "Scored",
    "Subclass",
    "choose",
    "scenarios_of",
]
