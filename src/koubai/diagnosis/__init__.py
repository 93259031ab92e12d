"""Why a descent converged, crawled, bounced or blew up, with evidence and a remedy that can be tried."""

from koubai.diagnosis.diagnosis import Diagnosis, Verification, diagnose

__all__ = ["Diagnosis", "Verification", "diagnose"]
