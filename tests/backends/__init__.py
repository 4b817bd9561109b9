"""Where jobs run: what every back end keeps, and how processes live and die."""
