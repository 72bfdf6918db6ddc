#!/bin/bash
# Trains on 2 machines with 8 GPUs each:
#   sbatch slurm-train.sh my.yaml --set training.accumulate=16
# Three minutes before the time is out, training saves and stops, and the job queues itself again.
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x.log
set -u
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# else machines that count restarts differently wait for each other for ever
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node 8 --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "$head:29500" --rdzv-id "$SLURM_JOB_ID" \
    -m mtrain train "$@" &
training=$!
time_is_out=
trap 'time_is_out=1; kill -TERM $training' USR1

wait $training # a signal ends this wait, so wait once more for the end
code=$?
if [ -n "$time_is_out" ]; then
    wait $training
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
