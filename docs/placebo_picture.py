"""A picture and tables of runs with the data and with placebos.

python docs/placebo_picture.py docs/images/placebos.png runs/data runs/order
"""

import sys

from mtl_jax.experiment import rankings

if __name__ == '__main__':
  rankings.draw_placebos(sys.argv[2:], sys.argv[1])
