#!/bin/bash
# A build as a Slurm array job. Submit it, then publish when all elements have ended:
#
#   job=$(sbatch --parsable deploy/slurm-build.sh crawl/ my.store)
#   sbatch --dependency=afterany:$job --wrap 'pergamon publish my.store'
#
# Elements that do not all run at the same time stop where they wait for others: submit the array once more before you
# publish, or let `publish` do what is left.
#SBATCH --array=0-31
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
set -euo pipefail
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-4} # the same in every element: it decides how sums are rounded
exec pergamon build --input "$1" --store "$2" --task "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
