"""What TRIPOD+AI and GMLP ask of a report on a model, and which section of a card answers it.

TRIPOD+AI: Collins et al. 2024, doi:10.1136/bmj-2023-078378. GMLP: ten guiding principles of FDA,
Health Canada and MHRA, October 2021. Wordings are ours, and some sub-items are one here. An item
without a section asks for what no record of this project holds: it is a person's to write.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """An item's number, what it asks, and the card's section that answers it, if any."""

    number: str
    asks: str
    section: str = ""


TRIPOD_AI = (
    Item("1", "title: a prediction model, its population and outcome"),
    Item("2", "abstract"),
    Item("3", "background: context, rationale, known inequalities of health"),
    Item("4", "objectives"),
    Item("5a", "sources of data, for development and for evaluation", "Data"),
    Item("5b", "dates of the data"),
    Item("6", "participants: setting, eligibility, treatments"),
    Item("7", "how data were prepared and their quality checked", "Provenance"),
    Item("8", "outcome and how it was assessed: rhythm annotations", "Annotations"),
    Item("9", "predictors and how they were measured", "Inputs and outputs"),
    Item("10", "size of the study", "Sides of the split"),
    Item("11", "missing data: records that failed or were left out", "Data"),
    Item("12a", "how data were divided for training and evaluation", "Sides of the split"),
    Item("12b", "type of model, steps of its making, parameters", "Training"),
    Item("12c", "how performance varies between groups", "Subgroups"),
    Item("12d", "measures of performance, with intervals", "Figures"),
    Item("12e", "recalibration or other changes after evaluation"),
    Item("13", "imbalance of classes", "Sides of the split"),
    Item("14", "fairness: what was done towards it"),
    Item("15", "output of the model and its threshold", "Inputs and outputs"),
    Item("16", "differences between training and evaluation data", "Other data sets"),
    Item("17", "ethical approval"),
    Item("18a", "funding"),
    Item("18b", "conflicts of interest"),
    Item("18c", "protocol"),
    Item("18d", "registration of the study"),
    Item("18e", "whether data can be had, and under which licence", "Licences"),
    Item("18f", "whether the code can be had: its commit", "Provenance"),
    Item("19", "involvement of patients and public"),
    Item("20a", "flow of participants, how many have the outcome", "Sides of the split"),
    Item("20b", "characteristics of participants: age, sex", "Demographics"),
    Item("21", "participants and outcomes in each analysis", "Sides of the split"),
    Item("22", "the model in full, so that others can use it", "Files"),
    Item("23a", "performance with intervals, in groups too", "Figures"),
    Item("23b", "heterogeneity between clusters: patients", "Patients with most mistakes"),
    Item("24", "results of updating the model"),
    Item("25", "interpretation, fairness among it"),
    Item("26", "limitations", "Limits"),
    Item("27a", "poor or missing input: how it is handled at use"),
    Item("27b", "what users must do, and their expertise"),
    Item("27c", "next steps of research"),
)

GMLP = (
    Item("1", "expertise of many disciplines throughout the life of the product"),
    Item("2", "good software engineering and security: locked, signed, traced", "Provenance"),
    Item("3", "participants and data represent the intended patients", "Demographics"),
    Item("4", "training data are independent of test data", "Sides of the split"),
    Item("5", "reference standards by the best available methods", "Annotations"),
    Item("6", "the model fits the data and the intended use", "Declared use"),
    Item("7", "performance of human and model together"),
    Item("8", "testing under clinically relevant conditions: other data", "Other data sets"),
    Item("9", "clear, essential information for users", "Limits"),
    Item("10", "deployed models are monitored, and retraining is managed"),
)

CHECKLISTS = {"TRIPOD+AI": TRIPOD_AI, "GMLP": GMLP}
