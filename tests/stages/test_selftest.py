import numpy as np

from raydistill.stages.selftest import leads_back


def test_a_picture_shows_a_patient_where_another_network_has_the_right_one_at_its_own_threshold():
    patients = np.array(["p", "p", "p", "p", "p"])
    judge = np.array(["p", "p", "q", "q", "q"]), np.array([0.6, 0.4, 0.9, 0.9, 0.1])
    auditor = np.array(["q", "p", "q", "p", "p"]), np.array([0.9, 0.6, 0.9, 0.7, 0.69])
    found = leads_back(patients, {"judge": judge, "auditor": auditor}, {"judge": 0.5, "auditor": 0.7})
    # On top and high enough for one; too low for both; somebody else; the other network; just below its threshold.
    assert found.tolist() == [True, False, False, True, False]
