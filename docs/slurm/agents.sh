#!/bin/bash
#SBATCH --job-name=cbp-qsnn
#SBATCH --array=1-12%4
#SBATCH --cpus-per-task=4
#SBATCH --gpus=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
# One agent of a W&B sweep per array task, for one run each: submit as many tasks as there are runs.
#   sbatch docs/slurm/agents.sh <entity>/cbp-qsnn/<sweep>
set -u
stopped=
trap 'stopped=1; [ -z "${!-}" ] || kill -TERM "$!" 2>/dev/null' TERM
cd "$SLURM_SUBMIT_DIR" || exit
. .venv/bin/activate || exit
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK NUMBA_NUM_THREADS=$SLURM_CPUS_PER_TASK

# Three minutes before the time is up SLURM sends TERM to this shell alone. The agent passes it on,
# the run ends with its checkpoint and is marked as preempting, and the task goes back to the queue.
[ -z "$stopped" ] || exec scontrol requeue "$SLURM_JOB_ID" # before there was work
wandb agent --forward-signals --term-timeout 150 --count 1 "$1" &
work=$!
wait "$work"
code=$?
while kill -0 "$work" 2>/dev/null; do # the signal ended the wait, not the work
  wait "$work"
done
[ -z "$stopped" ] || exec scontrol requeue "$SLURM_JOB_ID"
exit "$code"
