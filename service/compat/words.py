"""What the clients of S0 and S4 call the statuses of a job; each status has one word in each vocabulary."""

from __future__ import annotations

from service.jobs.states import ACTIVE, BLOCKED, CANCELLED, COMPLETED, FAILED, QUEUED, RETRYING, SCHEDULED

# S0, the states of its queue. Its clients poll until `completed` or `failed`, so a job that was cancelled has failed.
STATES = {
    "waiting": (QUEUED, BLOCKED),
    "active": (ACTIVE,),
    "delayed": (SCHEDULED, RETRYING),
    "completed": (COMPLETED,),
    "failed": (FAILED, CANCELLED),
}
STATE_OF = {status: state for state, statuses in STATES.items() for status in statuses}

# S4, the statuses of an analysis.
PHASES = {
    "pending": (SCHEDULED, BLOCKED, QUEUED, RETRYING),
    "processing": (ACTIVE,),
    "completed": (COMPLETED,),
    "failed": (FAILED,),
    "cancelled": (CANCELLED,),
}
PHASE_OF = {status: phase for phase, statuses in PHASES.items() for status in statuses}

# S4, what a stage is called while the job itself has said nothing.
STAGE_OF = {
    "pending": "Job queued",
    "processing": "Job processing started",
    "completed": "Job completed successfully",
    "failed": "Job failed",
    "cancelled": "Job cancelled",
}
