#!/bin/bash
#SBATCH --job-name=cbp-qsnn
#SBATCH --cpus-per-task=4
#SBATCH --gpus=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
# One run per array task: the command on that line of a file.
#   sbatch --array=1-9%4 docs/slurm/lines.sh runs.txt
set -u
stopped=
trap 'stopped=1; [ -z "${!-}" ] || kill -TERM "$!" 2>/dev/null' TERM
cd "$SLURM_SUBMIT_DIR" || exit
. .venv/bin/activate || exit
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK NUMBA_NUM_THREADS=$SLURM_CPUS_PER_TASK
line=$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$1")

# As in agents.sh: the run ends with its checkpoint, and goes on when the queue comes back to it.
[ -z "$stopped" ] || exec scontrol requeue "$SLURM_JOB_ID" # before there was work
eval "exec $line" &
work=$!
wait "$work"
code=$?
while kill -0 "$work" 2>/dev/null; do # the signal ended the wait, not the work
  wait "$work"
done
[ -z "$stopped" ] || exec scontrol requeue "$SLURM_JOB_ID"
exit "$code"
