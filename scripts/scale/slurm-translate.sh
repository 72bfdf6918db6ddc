#!/bin/bash
# Translates a text in 64 shards, one a task, then merges them:
#   sbatch slurm-translate.sh runs/en-de news.en news.de
#SBATCH --job-name=translate
#SBATCH --array=1-64
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --requeue
#SBATCH --output=%x-%a.log
set -eu
run=$1 input=$2 output=$3
shard=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

mtrain translate "$run" "$input" --output "$output" --shard "$shard"

# The first task also queues the merge, which begins when all shards are done.
if [ "$SLURM_ARRAY_TASK_ID" = 1 ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
    sbatch --dependency="afterok:$SLURM_ARRAY_JOB_ID" --job-name=merge --output=%x.log \
        --wrap="mtrain merge '$output'"
fi
