#!/bin/bash
#SBATCH --job-name=cbp-qsnn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# A Ray cluster for as long as the job lasts, and a sweep on it.
#   sbatch docs/slurm/ray.sh sweeps/12_fp32_stbp.yaml sweeps/20_cbp_stbp.yaml
set -u
cd "$SLURM_SUBMIT_DIR" || exit
. .venv/bin/activate || exit
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" -- \
  python -m repro sweep "$@" --engine ray --cpus-per-run 4 --gpus-per-run 1
