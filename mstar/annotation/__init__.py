"""Monte-Carlo step labels: what an MPRM learns from."""

from mstar.annotation.annotation import Annotation
from mstar.annotation.annotator import annotate
from mstar.annotation.command import annotate_policy
from mstar.annotation.contrast import ContrastSettings
from mstar.annotation.diet import LabelDiet
from mstar.annotation.public_labels import PublicStepLabels
from mstar.annotation.settings import AnnotationSettings

__all__ = [
    "Annotation",
    "AnnotationSettings",
    "ContrastSettings",
    "LabelDiet",
    "PublicStepLabels",
    "annotate",
    "annotate_policy",
]
